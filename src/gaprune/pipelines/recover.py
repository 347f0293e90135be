"""Recovering a model: the verb, and everything that is checked before it trains."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.config.files import load_recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.export.folder import check_destination
from gaprune.export.provenance import parent_identity, read_provenance
from gaprune.models.checks import check_blocks, check_layers
from gaprune.models.encoders import format_of
from gaprune.models.fingerprints import modules_fingerprint, weights_fingerprint
from gaprune.models.load import load_model, shortened
from gaprune.models.prompts import resolve_prompts
from gaprune.pipelines.arguments import split_source
from gaprune.pipelines.preflight import check_finite, check_outside
from gaprune.pipelines.recovered import Recovered, origin, record
from gaprune.recovery.arguments import check_extras, check_training
from gaprune.recovery.corpus import Corpus, read_corpus
from gaprune.recovery.folder import check_checkpoints, clear, last_checkpoint, require_same_run
from gaprune.recovery.held import held_matrices, zeros_of
from gaprune.recovery.teacher import Teacher, default_cache, refuse_other_width
from gaprune.recovery.train import train
from gaprune.util.distributed import join_process_group

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet

__all__ = ["recover"]

_WHERE = ("out", "overwrite", "checkpoint", "resume", "teacher_cache", "tasks", "model", "parent", "device")
"""Options that may differ when a run goes on."""


def recover(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    parent: str | Path | SentenceTransformer | None = None,
    recipe: RecoveryOptions | Mapping[str, Any] | str | Path | None = None,
    **options: Any,
) -> Recovered:
    """Retrain a pruned model on triplets of its domain, with every zero held.

    Args:
        model: What to recover: a folder, best one that GAPrune wrote, a hub id, or a loaded model, left as it is.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language to mix in against forgetting, or where to read them.
        steps: Optimiser steps.
        out: Folder to write the result to; nothing is written without one.
        parent: What to distil from and to compare with: a folder, a hub id, or a loaded model; what ``gaprune.json``
            names by default.
        recipe: Options, a mapping or a YAML file with further options.
        **options: Any other field of :class:`gaprune.config.RecoveryOptions`.

    Returns:
        The result, with the recovered model.

    Raises:
        GapruneError: One of its kinds, naming the option, file, line or layer, before anything is trained.

    Example:
        >>> gaprune.recover("pruned", domain="triplets.jsonl", steps=100, distil=True, out="recovered")

    Source:
        GAPrune, arXiv 2509.10844, on contrastive retraining after pruning.
    """
    model_name, loaded = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    parent_name, teacher = split_source(parent)
    if isinstance(recipe, RecoveryOptions):
        recipe = recipe.model_dump(exclude_unset=True)
    elif isinstance(recipe, str | Path):
        recipe = load_recipe(recipe, RecoveryOptions)
    given = {"model": model_name, "domain": domain_name, "general": general_name, "parent": parent_name}
    built = RecoveryOptions.build(recipe or {}, given, {"steps": steps, "out": out}, options)
    with ExitStack() as stack:
        return _Job(built, loaded, teacher, stack).run(domain_triplets, general_triplets)


class _Job:
    """One recovery, from options to the saved result."""

    def __init__(
        self,
        options: RecoveryOptions,
        loaded: SentenceTransformer | None,
        teacher: SentenceTransformer | None,
        stack: ExitStack,
    ) -> None:
        self.options, self.loaded, self.teacher, self.stack = options, loaded, teacher, stack
        check_extras(options)
        self.processes = _processes(options)
        if loaded is None and options.model is None:
            raise ConfigError("model: no model to recover is named.", "Name the folder of a pruned model.")
        if (teacher is not None or options.parent is not None) and not (options.distil or options.tasks):
            raise ConfigError(
                "parent: nothing is distilled from it or evaluated beside it, so this has no effect.",
                "Leave it out, or ask for --distil or --tasks.",
            )
        if loaded is not None:
            loads_parent = teacher is None and options.parent is not None
            for option in ("model", *(() if loads_parent else ("trust_remote_code", "device"))):
                if getattr(options, option):
                    raise ConfigError(
                        f"{option}: the model is a loaded model, so this has no effect.", "Leave it out."
                    )
        self.out = None if options.out is None else check_destination(options.out, overwrite=options.overwrite)
        if self.out is not None:
            check_outside(
                {self.out},
                read={name: getattr(options, name) for name in ("model", "parent", "domain", "general", "tasks")},
                written={name: getattr(options, name) for name in ("checkpoint", "teacher_cache")},
            )
        self.checkpoints = _checkpoints(options, self.out, self.processes.num_processes, stack)
        self.tasks = find_tasks(Path(options.tasks)) if options.tasks else []
        if options.model is not None and format_of(options.model) != "torch":
            raise ConfigError(
                f"model: {options.model} is exported, and cannot be trained.", "Name the folder it was made from."
            )
        self.provenance = None if options.model is None else read_provenance(options.model)
        self.parent_name = _parent_name(options, self.provenance, teacher, needed=options.distil)

    def run(self, domain: Sequence[Triplet] | None, general: Sequence[Triplet] | None) -> Recovered:
        """Train, evaluate and save."""
        options = self.options
        corpus = read_corpus(options, domain=domain, general=general, parts=self.processes.num_processes)
        corpus.check([options], self.processes.num_processes)
        model = self._load()
        limits = self.stack.enter_context(ExitStack())
        limits.enter_context(shortened(model, options.max_length))
        check_finite(model)
        check_layers(model)
        check_blocks(model, streamed=False)
        identity = parent_identity(model, options.model or "a model in memory", None)
        zeros = zeros_of(held_matrices(model, options.targets))
        prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)
        check_training(model, corpus, options, prompts)
        teacher_identity = self._load_parent(model)
        if options.mine_negatives:
            corpus = corpus.with_negatives(model, options.mine_negatives, prompts)
            corpus.check([options], self.processes.num_processes)
        run = {
            "options": options.model_dump(mode="json", exclude=set(_WHERE)),
            "model": [identity["weights_sha256"], modules_fingerprint(model)],
            "data": corpus.as_dict(),
            "parent": teacher_identity and teacher_identity["weights_sha256"] if options.distil else None,
            "processes": self.processes.num_processes,
        }
        self.processes.wait_for_everyone()
        if self.processes.is_main_process:
            require_same_run(self.checkpoints, run, resume=options.resume)
        self.processes.wait_for_everyone()
        training = train(
            model,
            corpus,
            options,
            prompts=prompts,
            zeros=zeros,
            checkpoints=self.checkpoints,
            teacher=self._embeddings(corpus, teacher_identity),
            resume_from=last_checkpoint(self.checkpoints, self.processes.num_processes) if options.resume else None,
            resumable=self.out is not None or options.checkpoint is not None,
        )
        limits.close()
        result = Recovered(
            model=model,
            options=options,
            training=training,
            prompts=prompts,
            base=self.provenance or origin(model, identity, options),
            record=record(options, corpus, training, teacher_identity if options.distil else None),
        )
        self.processes.wait_for_everyone()  # with what the checkpoints hold, before they go
        if self.processes.is_main_process:
            result = self._finish(result)
        self.processes.wait_for_everyone()
        return result

    def _finish(self, result: Recovered) -> Recovered:
        if self.tasks:
            beside = self.teacher
            if beside is None:  # no parent is known of a model that others made: it stands beside itself as it was
                beside = self._load()
            result = result.evaluate(self.tasks, parent=beside)
        if self.out is not None:
            result.save(self.out, overwrite=self.options.overwrite)
        clear(self.checkpoints)
        return result

    def _load(self) -> SentenceTransformer:
        if self.loaded is not None:
            return copy.deepcopy(self.loaded)
        options = self.options
        return load_model(str(options.model), trust_remote_code=options.trust_remote_code, device=options.device)

    def _load_parent(self, model: SentenceTransformer) -> dict[str, Any] | None:
        """Load the parent where it is needed, and return what identifies it."""
        options = self.options
        if not (options.distil or self.tasks):
            return None
        if self.teacher is None:
            if self.parent_name is None:
                return None
            said = None if self.provenance is None else self.provenance["parent"]
            own = {} if options.parent or self.provenance is None or said is None else _how_loaded(self.provenance)
            try:
                self.teacher = load_model(
                    self.parent_name, trust_remote_code=options.trust_remote_code, device=options.device, **own
                )
            except ModelError as error:
                if options.parent is not None:
                    raise
                raise ModelError(
                    f"parent: gaprune.json in {options.model} names {self.parent_name}. {error.problem}",
                    f"Name the dense model with --parent (parent=...). {error.remedy}",
                ) from error
            found = weights_fingerprint(self.teacher)
            if options.parent is None and said is not None and found != said["weights_sha256"]:
                raise ModelError(
                    f"parent: {self.parent_name} has other weights ({found[:12]}) than gaprune.json says of it "
                    f"({said['weights_sha256'][:12]}).",
                    "Name the parent, or whatever is to teach instead, with --parent.",
                )
        if options.distil:
            refuse_other_width(model, self.teacher, weight=options.embedding_weight)
        return parent_identity(self.teacher, self.parent_name or "a model in memory", None)

    def _embeddings(self, corpus: Corpus, identity: Mapping[str, Any] | None) -> Teacher | None:
        """Embed what is trained on with the parent, which is let go where no task needs it."""
        options, parent = self.options, self.teacher
        if not options.distil or parent is None or identity is None:
            return None
        prompts = resolve_prompts(parent, query=options.query_prompt, passage=options.passage_prompt)
        cache = options.teacher_cache
        own, limit = parent.max_seq_length, options.max_length
        with shortened(parent, None if limit is None or (own is not None and own <= limit) else limit):
            found = Teacher.of(
                parent,
                corpus.texts([options]),
                prompts=prompts,
                fingerprint=identity["weights_sha256"],
                cache=default_cache() if cache is None else Path(cache),
                first=self.processes.main_process_first(),
            )
        if not self.tasks:
            self.teacher = None
        return found


def _processes(options: RecoveryOptions) -> Any:
    """Return the state of this process among those that train together."""
    import torch
    from accelerate import PartialState

    join_process_group()  # with more patience than accelerate has: one process embeds, evaluates and writes for all
    return PartialState(cpu=options.device == "cpu" or not torch.cuda.is_available())


def _checkpoints(options: RecoveryOptions, out: Path | None, processes: int, stack: ExitStack) -> Path:
    """Return the folder of checkpoints; a temporary one where nothing says where they go."""
    if options.checkpoint is None and out is None:
        if options.resume or processes > 1:
            raise ConfigError(
                "checkpoint: a run that is resumed, or has several processes, needs a folder of checkpoints.",
                "Name one with checkpoint=FOLDER (--set checkpoint=FOLDER), or an output folder with --out.",
            )
        folder = Path(tempfile.mkdtemp(prefix="gaprune-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    folder = out.with_name(f"{out.name}.checkpoints") if out is not None else Path()
    folder = folder if options.checkpoint is None else Path(options.checkpoint).resolve()
    check_checkpoints(folder, resume=options.resume, overwrite=options.overwrite)
    return folder


def _parent_name(
    options: RecoveryOptions,
    provenance: Mapping[str, Any] | None,
    teacher: SentenceTransformer | None,
    *,
    needed: bool,
) -> str | None:
    """Return where the parent is; ``None`` where it is loaded or nobody knows."""
    if teacher is not None:
        return None
    name = options.parent or (provenance["parent"]["name"] if provenance else None)
    if name is None and needed:
        raise ConfigError(
            "parent: nothing says what to distil from.", "Name the dense model with --parent (parent=...)."
        )
    return name


def _how_loaded(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the parent was loaded when it was pruned, on which its fingerprint depends."""
    recipe = provenance.get("recipe", {})
    return {option: recipe.get(option) for option in ("revision", "dtype")}
