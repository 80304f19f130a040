"""Render the report: one self-contained page, in two editions. The internal one shows real images, the public none."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raydistill import __version__
from raydistill.core.secret import run_secret
from raydistill.report import groups, pictures, sections, settings, tables, trials
from raydistill.report.evidence import MATCH_NODES, METRIC_NODES, Artifacts, Evidence, may_leave
from raydistill.report.figures import Figure
from raydistill.report.judged import BROKEN, OUTCOMES, standing
from raydistill.report.methods import counted, method_of, methods
from raydistill.report.numbers import absence, inline, show, span
from raydistill.report.outside import policy_outside, summary_outside
from raydistill.report.rules import DIFFERENCE, conclusion, rules
from raydistill.report.tiles import tiles
from raydistill.report.verdict import ANYWAY, about_audited, banner
from raydistill.report.words import LIMITS, control_name, plain

PAGE = "report.html"


def write_report(runner: Artifacts, summary: Mapping[str, Any]) -> None:
    """Write RUN/report.html, the internal report.

    Args:
        runner: the run, with the manifests of the finished nodes.
        summary: the content of summary.json.
    """
    runner.run.write_bytes(PAGE, render(runner, summary, public=False).encode())


def render(runner: Artifacts, summary: Mapping[str, Any], *, public: bool) -> str:
    """Render the page.

    Args:
        runner: the run.
        summary: the content of summary.json.
        public: leave out real images, whatever was made of one, pairs, patients' hashes, small groups and states.

    Returns:
        HTML that loads nothing from anywhere.
    """
    if public:
        summary = summary_outside(runner, summary)
    evidence, metrics = Evidence(runner), summary["metrics"]
    setting = tables.setting(evidence)
    looks, held = evidence.decided(), standing(evidence, summary)
    template = environment().get_template("report.html.j2")
    return template.render(
        public=public,
        name=summary["name"],
        version=__version__,
        verdict=summary["verdict"],
        audited=about_audited(runner.config.audited),
        banner=banner(summary, held, has_student=not evidence.is_skipped("student")),
        reasons=summary["reasons"],
        held=held,
        broken=BROKEN,
        outcomes=OUTCOMES,
        progress=tables.progress(summary),
        **{name: looks.get(name, 0) for name in ("evaluations", "decisions")},
        anyway=ANYWAY if is_against_verdict(runner, summary) else None,
        skipped=evidence.skipped(),
        tiles=tiles(metrics, runner.config.release.budgets),
        figures=_figures(evidence, summary, public=public),
        metric_tables=tables.metric_tables(evidence, metrics),
        methods=methods(metrics),
        groups=tables.GROUPS,
        unimportant=settings.why_no_importances(evidence),
        filter_rows=tables.filter_rows(evidence, metrics),
        rules=rules(metrics),
        rules_say=conclusion(metrics),
        difference=DIFFERENCE,
        setting=policy_outside(runner, setting) if public else setting,
        agreement=tables.agreement(evidence, metrics),
        sources=_sources(evidence),
        cohort=tables.cohort(evidence, public=public),
        roles_given=tables.roles_given(evidence),
        scrubbed=tables.scrubbed(evidence, public=public),
        nodes=tables.node_rows(evidence, summary, public=public),
        software=_software(runner),
        limits=LIMITS,
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        **_pictures(evidence, public=public),
    )


def is_against_verdict(runner: Artifacts, summary: Mapping[str, Any]) -> bool:
    """Whether the configuration releases although the verdict isn't a pass."""
    return summary["verdict"] != "pass" and may_leave(runner, summary)


def environment() -> Environment:
    """Return the templates' environment: HTML is escaped, and a name that isn't there is an error."""
    found = Environment(
        loader=PackageLoader("raydistill.report"),
        autoescape=lambda name: not (name or "").endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"show": show, "span": span, "plain": plain, "json": as_json, "inline": inline, "absence": absence}
    found.filters |= {"method": method_of, "counted": counted, "control_name": control_name}
    return found


def as_json(figure: Figure) -> Markup:
    """Write a drawing as JSON that can't end the script element it stands in."""
    return Markup(figure.plot.to_json().replace("<", "\\u003c"))


def _figures(evidence: Evidence, summary: Mapping[str, Any], *, public: bool) -> dict[str, Figure | None]:
    metrics = summary["metrics"]
    return {
        "risk": sections.risk(evidence, metrics),
        "auditor": sections.scores(evidence, "auditor", public=public),
        "filter": sections.scores(evidence, "filter", public=public),
        "structure": sections.scores(evidence, "filter", "structure_score", public=public),
        "det_auditor": sections.det(evidence, "auditor", public=public),
        "det_filter": sections.det(evidence, "filter", public=public),
        "selftest": sections.selftest(evidence, metrics),
        "frontier": trials.frontier(evidence, public=public),
        "parallel": settings.parallel(evidence),
        "importances": settings.importances(evidence),
        "findings": groups.by_finding(evidence, public=public),
        "utility_groups": groups.utility_by_subgroup(evidence, public=public),
        "fidelity_findings": groups.fidelity_by_finding(evidence, public=public),
        "subgroups": groups.subgroups(evidence, public=public),
        "memorisation": sections.memorisation(evidence, metrics),
        "timings": sections.timings(evidence, list(summary["nodes"])),
    }


def _pictures(evidence: Evidence, *, public: bool) -> dict[str, Any]:
    if public:
        grids = [pictures.sample_grid(evidence, "student", kept_only=True)]
        return {"grids": [grid for grid in grids if grid], "pairs": {}, "planted": [], "worst": {}, "panel": {}}
    key = run_secret(evidence.artifacts.run)
    grids = [pictures.real_grid(evidence), *(pictures.sample_grid(evidence, group) for group in sections.MODELS)]
    pairs = {
        (group, f"{group.capitalize()}, by {words}"): pictures.closest_pairs(evidence, group, by, key)
        for group in sections.MODELS
        for by, words in (("score", "the auditor's score"), ("structure_score", "structure"))
    }
    return {
        "grids": [grid for grid in grids if grid],
        "pairs": {heading: found for heading, found in pairs.items() if found},
        "planted": pictures.planted_pairs(evidence),
        "panel": pictures.panel(evidence),
        "worst": {group: tables.worst(evidence, group, key) for group in sections.MODELS},
    }


def _sources(evidence: Evidence) -> dict[str, str | None]:
    """Say where the tables and pairs were read that aren't figures."""
    audits = {f"worst {group}": (METRIC_NODES[group], "tables/audit.parquet") for group in sections.MODELS}
    pairs = {f"pairs {group}": (MATCH_NODES[group], "auditor/samples") for group in sections.MODELS}
    places = {
        "setting": ("tune", "policy/policy.json"),
        "agreement": ("selftest", "agreement/agreement.json"),
        "planted": ("selftest", "planted"),
        "cohort": ("ingest", "cohort/cohort.json"),
        "rules": ("simple_rules", "metrics.json"),
    }
    return {name: evidence.path(*place) for name, place in (places | audits | pairs).items()}


def _software(runner: Artifacts) -> Mapping[str, str]:
    manifests = list(runner.manifests.values())
    return manifests[-1].software if manifests else {}
