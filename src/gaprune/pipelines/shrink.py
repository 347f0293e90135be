"""``gaprune.shrink``: from texts of a domain and a speed to a finished, measured model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.data import DataReading
from gaprune.config.files import given_options
from gaprune.config.recovery import OF_TRIPLETS
from gaprune.config.shrink import Runtime, ShrinkOptions
from gaprune.config.typed import ShrinkKeywords
from gaprune.data.samples import sample_triplets
from gaprune.errors import ConfigError, GapruneError, ModelError, TimeTooShortError, continued_by
from gaprune.evaluation.quality.changed import evaluate_queries
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.export.folder import save
from gaprune.export.portable import portable
from gaprune.export.provenance import Provenance
from gaprune.export.records import Shrink
from gaprune.models.checks import check_layers
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.models.vocabulary import vocabulary
from gaprune.pipelines.domain_data import DomainData, prepare_domain
from gaprune.pipelines.export import export_model
from gaprune.pipelines.meet_target import Met, meet_target
from gaprune.pipelines.recover import recover
from gaprune.pipelines.runtimes import RuntimeChoice, choose_runtime
from gaprune.pipelines.shrink_checks import check_exported, check_shrink, check_size, exported_folder, with_prompts
from gaprune.pipelines.shrink_plan import ShrinkPlan, plan_shrink
from gaprune.pipelines.stage_advice import advising
from gaprune.pipelines.stages import Stages, fingerprint_of
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.report.card import model_card
from gaprune.report.markdown import put_section
from gaprune.report.page import report_page
from gaprune.report.shrink import shrink_markdown
from gaprune.util.files import locked
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Shrunk:
    """A finished model.

    Args:
        out: Its folder.
        provenance: Everything that made it; ``provenance.shrink`` is what was measured.
        evaluation: Its quality on held-out queries beside its parent, alone and in the parent's index.
        exported: Folder of the int8 model for the runtime in which speeds were measured, if that is not PyTorch.
    """

    out: Path
    provenance: Provenance
    evaluation: Evaluation
    exported: Path | None


def shrink(
    model: str | Path | None = None,
    *,
    domain: str | Path | None = None,
    general: str | Path | None = None,
    out: str | Path | None = None,
    recipe: ShrinkOptions | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[ShrinkKeywords],
) -> Shrunk:
    """Make a smaller, faster model for a domain, measure it, and write it as an ordinary model folder.

    The stages are: data (triplets are made if documents are given, and queries are held out), pruning for the measured
    target with reconstruction, distillation from the parent on the texts with a contrastive finish where there are
    labels, and judging beside the parent. Every finished stage is kept in ``OUT.stages`` until the end: the same call
    continues a run that was killed.

    Args:
        model: The parent: a folder or a hub id.
        domain: Triplets of the domain, or plain documents.
        general: Triplets of general language; by default the small sample that comes with GAPrune.
        out: Folder to write.
        recipe: Options, a mapping or a YAML file with further options.
        **options: Any other field of :class:`gaprune.config.shrink.ShrinkOptions`; one target (``speedup``, ``size``
            or ``parameters``) is needed.

    Returns:
        What was made and measured.

    Raises:
        GapruneError: One of its kinds, naming the option, file, line or stage.

    Example:
        >>> gaprune.shrink("sentence-transformers/all-MiniLM-L6-v2", domain="documents", speedup=3, out="small")
    """
    asked = ShrinkOptions.build(
        given_options(recipe, ShrinkOptions),
        {"model": model, "domain": domain, "general": general, "out": out},
        options,
    )
    destination = check_shrink(asked)
    asked = with_prompts(asked)
    work = destination.with_name(f"{destination.name}.stages")
    general_source = asked.general or sample_triplets("general")
    read = {"domain": fingerprint_of(str(asked.domain)), "general": fingerprint_of(general_source)}
    parent = load_model(str(asked.model), trust_remote_code=asked.trust_remote_code)
    check_layers(parent)
    check_size(parent, asked)
    with locked(work, wait=False), _left(stages := Stages(work)):
        inputs = {**read, **_named(asked, "held_out", "seed", *DataReading.model_fields)}
        is_new = not stages.has("data", inputs)
        data = DomainData.read(stages.once("data", inputs, partial(_prepare, asked, general_source)))
        if is_new and data.warnings:
            say("\n".join(f"Warning: {each}" for each in data.warnings))
        inputs = {"parent": fingerprint_of(str(asked.model))}
        tried = {**inputs, **_named(asked, "runtime")}
        where = RuntimeChoice.read(stages.once("runtime", tried, partial(choose_runtime, parent, _given(asked))))
        asked = asked.model_copy(update={"runtime": where.chosen})
        check_exported(asked)
        inputs |= _named(asked, "target", "runtime", "prune")
        begun = stages.scratch("pruning", inputs)
        plan = ShrinkPlan.read(begun, asked) or _plan(parent, data, asked, where, stages)
        is_pruned = stages.has("pruned", inputs)
        if not is_pruned:
            plan.check()
        said = [where.sentence()] if where.speedups and not is_pruned else []
        say("\n".join([*said, *plan.lines(data, asked, pruned=stages.minutes("pruned") if is_pruned else None)]))
        pruned = stages.once("pruned", inputs, partial(_prune, parent, data, asked, plan, begun))
        shutil.rmtree(begun, ignore_errors=True)
        spent = stages.minutes("data", "runtime", "pruned")
        minutes = max(plan.least_minutes, asked.minutes - spent - plan.judging_minutes)
        checkpoints = stages.scratch("training", _named(asked, "recover"))
        trained = stages.once(
            "trained",
            _named(asked, "minutes", "recover"),
            partial(_train, pruned, parent, data, asked, minutes, checkpoints),
        )
        result = _finish(trained, parent, data, asked, _record(asked, data, Met.read(pruned), stages))
        try:
            exported = None if asked.measured_in == "torch" else _export(result.out, data, asked)
        finally:
            stages.remove()  # the model is finished: nothing is left to continue
    return replace(result, exported=exported)


@contextmanager
def _left(stages: Stages) -> Iterator[None]:
    """Say what is left of a run that ends early and how it continues; of one that is refused at once, nothing is."""
    how = f"Run the same command again to continue; finished stages are kept in {stages.folder}."
    try:
        with continued_by(how, folder=stages.folder):
            yield
    except ConfigError:
        stages.discard()
        if stages.folder.exists():
            say(f"Finished stages are kept in {stages.folder}, for the corrected command.")
        raise


def _named(asked: ShrinkOptions, *options: str) -> dict[str, Any]:
    """Return the options that a stage depends on."""
    return {option: str(getattr(asked, option)) for option in options}


def _given(asked: ShrinkOptions) -> Runtime | None:
    """Return the runtime that is given; only a speedup asks for one."""
    return "torch" if asked.speedup is None else asked.runtime


def _prepare(asked: ShrinkOptions, general: str | Path, folder: Path) -> None:
    prepare_domain(folder, str(asked.domain), general, held_out=asked.held_out, seed=asked.seed, reading=asked)


def _plan(
    parent: SentenceTransformer, data: DomainData, asked: ShrinkOptions, where: RuntimeChoice, stages: Stages
) -> ShrinkPlan:
    spent = stages.minutes("data", "runtime")
    return plan_shrink(parent, data, asked, export_seconds=where.export_seconds, spent=spent)


def _prune(
    parent: SentenceTransformer,
    data: DomainData,
    asked: ShrinkOptions,
    plan: ShrinkPlan,
    begun: Path,
    folder: Path,
) -> None:
    """Prune for the target; the plan and what is measured lie in ``begun``, for a run that continues."""
    plan.write(begun)
    measured = begun / "measured"
    options: dict[str, Any] = {"domain": data.domain, "general": data.general, "seed": asked.seed}
    options |= {**plan.setting.options(), "checkpoint": measured, "resume": measured.exists()}
    options |= {"vocabulary": data.texts} if _removes_tokens(parent, asked) else {}
    options |= asked.prune
    with advising("prune"):
        speeds = begun / "speeds.json"
        meet_target(parent, asked.target, folder, runtime=asked.measured_in, options=options, speeds=speeds)


def _removes_tokens(parent: SentenceTransformer, asked: ShrinkOptions) -> bool:
    """Return whether tokens that no text uses are removed: they make a model smaller, and no faster."""
    if asked.target.kind == "speedup" or {"vocabulary", "tokens"} & asked.prune.keys():
        return False
    try:
        vocabulary(parent)
    except ModelError as error:
        say(f"All tokens are kept: {error.problem}")
        return False
    return True


def _train(
    pruned: Path,
    parent: SentenceTransformer,
    data: DomainData,
    asked: ShrinkOptions,
    minutes: float,
    checkpoints: Path,
    folder: Path,
) -> None:
    """Distil on the texts, then fine-tune on the triplets if the user gave them.

    If pruning took so long that too little time is left, training takes the least that it needs.
    """
    options: dict[str, Any] = {"minutes": minutes, "seed": asked.seed, "checkpoint": checkpoints}
    options |= {name: each for name, each in asked.recover.items() if data.is_labelled or name not in OF_TRIPLETS}
    options |= {"domain": data.domain} if data.is_labelled else {}
    options |= {"trust_remote_code": True} if asked.trust_remote_code else {}
    sources: dict[str, Any] = {"parent": parent, "texts": data.texts, "general": data.general, "out": folder / "model"}
    with advising("recover"):
        try:
            recover(pruned / "model", **sources, **options, resume=Checkpoints(checkpoints).unfinished)
        except TimeTooShortError as error:
            options["minutes"] = math.ceil(error.least_minutes * 10 + 1) / 10
            say(
                f"Too little time is left for training: it gets {options['minutes']:g} minutes, the least it needs at "
                f"the speed that this machine has now, and the whole run takes longer than {asked.minutes:g}."
            )
            recover(pruned / "model", **sources, **options, resume=Checkpoints(checkpoints).unfinished)


def _record(asked: ShrinkOptions, data: DomainData, met: Met, stages: Stages) -> Shrink:
    return Shrink(
        target=str(asked.target),
        runtime=asked.measured_in,
        speed=met.speed,
        expected=tuple(each.expected for each in met.attempts if each.expected is not None),
        minutes={name: stages.minutes(name) for name in ("data", "runtime", "pruned", "trained")},
        training_triplets=data.training_triplets,
        held_out_queries=data.held_out_queries,
        texts=data.text_count,
        is_labelled=data.is_labelled,
        warnings=data.warnings,
        options=asked.model_dump(mode="json", exclude_unset=True),
    )


def _finish(
    trained: Path, parent: SentenceTransformer, data: DomainData, asked: ShrinkOptions, record: Shrink
) -> Shrunk:
    """Judge the model beside its parent, and write it with its card."""
    child = load_model(trained / "model", device=str(parent.device), trust_remote_code=asked.trust_remote_code)
    made = Provenance.read(trained / "model")
    if made is None:
        raise RuntimeError(f"{trained} has no provenance")
    tasks = find_tasks(data.tasks)
    given = {"query": asked.prune.get("query_prompt"), "passage": asked.prune.get("passage_prompt")}
    put = [resolve_prompts(each, **given) for each in (parent, child)]
    its = evaluate(parent, tasks, prompts=put[0], label="Judging the parent", keep_vectors=True)
    evaluation, queries = evaluate_queries(child, tasks, prompts=put[1], parent=its, label="Judging")
    out = Path(str(asked.out))
    measured = {"shrink": record, "evaluation": evaluation}
    provenance = _with_given_names(made, asked).model_copy(update=measured).seen_from(out, asked.model)
    card = put_section(model_card(provenance, evaluation), "shrink", shrink_markdown(provenance, evaluation))
    save(
        child,
        out,
        card=card,
        page=report_page(provenance, queries),
        provenance=provenance,
        queries=queries,
        overwrite=asked.overwrite,
    )
    return Shrunk(out, provenance, evaluation, None)


def _export(out: Path, data: DomainData, asked: ShrinkOptions) -> Path | None:
    """Write the finished model for its runtime, and return the folder; ``None`` if that fails, which is said."""
    folder = exported_folder(asked)
    try:
        made = export_model(
            out,
            to=asked.measured_in,
            int8=True,
            out=folder,
            domain=data.domain,
            force=True,  # its speed is what was asked for; where int8 costs much, that is said
            overwrite=asked.overwrite,
            trust_remote_code=asked.trust_remote_code,
        )
    except (GapruneError, KeyboardInterrupt) as error:
        again = f"gaprune export {out} --to {asked.measured_in} --int8 --out {folder} --domain {asked.domain}"
        say(f"The model is finished: {out}. Only its int8 form is missing; to write it: {again}")
        if isinstance(error, KeyboardInterrupt):
            raise
        say(str(error))
        return None
    if made.record.below_floor:
        say(
            f"Warning: in int8 the cosine between an embedding and the model's is {made.record.cosine_mean:.4f} on "
            f"average and {made.record.cosine_min:.4f} at the lowest: measure its quality before you use {folder}."
        )
    return folder


def _with_given_names(made: Provenance, asked: ShrinkOptions) -> Provenance:
    """Return the provenance with the names of the user's data in place of those of the stages."""
    names = portable({"domain": asked.domain, "general": asked.general or "general.jsonl"})
    inner = {"domain.jsonl": names["domain"], "general.jsonl": names["general"], "texts": names["domain"]}

    def named(content: Any) -> Any:
        if isinstance(content, dict):
            return {
                key: inner.get(value, value)
                if key in ("name", "domain", "general", "texts") and isinstance(value, str)
                else named(value)
                for key, value in content.items()
            }
        return list(map(named, content)) if isinstance(content, list) else content

    return Provenance.model_validate(named(made.as_dict()))
