"""Recovery: fine-tuning and distillation of a pruned model, with its zeros masked."""
