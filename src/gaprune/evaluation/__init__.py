"""Quality of an embedding model: own tasks in folders, MTEB benchmarks, side by side with the parent."""

from gaprune.evaluation.benchmarks import FINANCE_TASKS, evaluate_benchmark
from gaprune.evaluation.classification import ClassificationTask
from gaprune.evaluation.discovery import find_tasks
from gaprune.evaluation.footprint import Footprint, MatrixFootprint, footprint
from gaprune.evaluation.pairs import PairClassificationTask, SimilarityTask
from gaprune.evaluation.quality import evaluate
from gaprune.evaluation.retrieval import RetrievalTask
from gaprune.evaluation.scores import Evaluation, Score
from gaprune.evaluation.task import Task
from gaprune.evaluation.triplets import TripletTask

__all__ = [
    "FINANCE_TASKS",
    "ClassificationTask",
    "Evaluation",
    "Footprint",
    "MatrixFootprint",
    "PairClassificationTask",
    "RetrievalTask",
    "Score",
    "SimilarityTask",
    "Task",
    "TripletTask",
    "evaluate",
    "evaluate_benchmark",
    "find_tasks",
    "footprint",
]
