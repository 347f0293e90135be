"""Reading, checking, sampling, mining and making the triplets that a model is measured with."""
