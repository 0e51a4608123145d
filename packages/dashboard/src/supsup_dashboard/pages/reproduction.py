"""Every table and figure of the paper, ours beside theirs, from the records under reproduction/; what is missing, launched."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st
from supsup_datasets import EMBEDDED_MNIST
from supsup_methods.errors import UsageError
from supsup_methods.reproduction.ledger import (
    RECORDS,
    Entry,
    Ledger,
    Record,
    Section,
    hours_of,
    ledger_of,
    read_records,
    section_aside,
)
from supsup_methods.reproduction.record_figures import drawings
from supsup_methods.reproduction.targets import FIGURES, TARGETS

from supsup_dashboard.charts import show_chart
from supsup_dashboard.kept_values import beginning, held
from supsup_dashboard.launching.reproduction_form import REPRODUCTION, show_jobs, show_launch
from supsup_dashboard.run_choice import changed

_NUMBER = st.column_config.NumberColumn(format="%.2f")
_SIGNED = st.column_config.NumberColumn(format="%+.2f")


def show() -> None:
    """Show the ledger, one table or figure of it, and the form that measures more."""
    st.title("Reproduction")
    folder = REPRODUCTION / RECORDS
    records: list[Record] = []
    for each in _records(folder, _stamps(folder)):
        if isinstance(each, Record):
            records.append(each)
        else:
            st.error(str(each))
    if not records:
        st.info(
            f"No record in {folder} of the folder that the dashboard was started in. Measure something below, or in a terminal: "
            "`poetry run supsup-reproduce table3 --data-root DIR`"
        )
    ledger = ledger_of(records)
    _show_totals(ledger)
    sections = {section.name: section for section in ledger.sections}
    names = [*FIGURES, *TARGETS, *(name for name in sections if name not in TARGETS)]
    st.header("One table or figure")
    at_first = beginning("reproduction-target", names[0])
    chosen = st.selectbox(
        "Table or figure",
        names,
        names.index(at_first) if at_first in names else 0,
        format_func=_described,
        key="reproduction-target",
    )
    held("reproduction-target", chosen)
    _show_chosen(chosen, sections, [record for record in records if not record.counts])
    if ledger.untouched:
        with st.expander(f"{len(ledger.untouched)} numbers of the paper that no target measures"):
            _show_numbers(ledger.untouched)
    st.header("Measure what is missing")
    show_launch(chosen)
    show_jobs()


def _stamps(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple((path.name, changed(path)) for path in sorted(folder.glob("*.json")))


@st.cache_data(max_entries=5, show_spinner=False)
def _records(folder: Path, stamps: tuple[tuple[str, int], ...]) -> list[Record | UsageError]:
    return list(read_records(folder))


def _described(name: str) -> str:
    about = FIGURES[name].about if name in FIGURES else TARGETS[name].about if name in TARGETS else "of another version"
    return f"{name}: {about}"


def _show_totals(ledger: Ledger) -> None:
    counts = ledger.counts
    hours = hours_of([record for section in ledger.sections for record in section.records])
    values = {
        "Reproduced": f"{counts['reproduced']}",
        "Deviate": f"{counts['deviates']}",
        "Not run": f"{counts['not run']}",
        "Numbers of the paper": f"{counts.total()}",
        "Hours of runs": f"{hours:.1f}",
    }
    for column, (name, value) in zip(st.columns(len(values)), values.items(), strict=True):
        column.metric(name, value)
    st.caption(
        "A row of SupSup is reproduced where it is within 0.5 points of the paper's, a row of a baseline or of Table 2 within 2. "
        "A run that two targets share counts in the hours of both, and once in the sum."
    )
    hours_format = {"hours of runs": st.column_config.NumberColumn(format="%.1f")}
    st.dataframe(
        pd.DataFrame(map(_total, ledger.sections)),
        hide_index=True,
        column_config=hours_format,
        placeholder="",
        alt="Numbers reproduced, deviating and not run, of each target",
    )


def _total(section: Section) -> dict[str, object]:
    """Return a line of the table of targets."""
    counts, records = section.counts, section.records
    seeds = {seed for record in records for seed in record.seeds}
    compared = counts.total() > 0
    return {
        "target": section.name,
        "reproduced": counts["reproduced"] if compared else None,
        "deviate": counts["deviates"] if compared else None,
        "not run": counts["not run"] if compared else None,
        "measured": section.measured or None,
        "seeds": len(seeds) or None,
        "hours of runs": section.hours if records else None,
        "data": _each(record.data for record in records),
        "machine": _each(record.machine for record in records),
        "commit": _each(record.commit for record in records),
    }


def _each(values: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def _show_chosen(chosen: str, sections: dict[str, Section], aside: Sequence[Record]) -> None:
    """Show a target, or those that a figure is drawn from."""
    if chosen in FIGURES:
        for panel, why in FIGURES[chosen].unmeasured.items():
            st.info(f"{chosen}, {panel}: {why}.")
        parts = [(f"{chosen}, {panel}: {name}", name) for panel, name in FIGURES[chosen].panels.items()]
    else:
        parts = [(chosen, chosen)]
    for title, name in parts:
        st.subheader(title)
        section = sections.get(name, Section(name, ()))
        _show_section(section)
        for suffix, title, records in (
            ("-quick", "The small version (--quick), whose numbers are not the paper's", [r for r in aside if r.quick]),
            (
                "-shipped",
                f"On {EMBEDDED_MNIST}, the digits that ship with a dependency, which are not the paper's data",
                [record for record in aside if not record.quick],
            ),
        ):
            if (alone := section_aside(name, records)).records:
                with st.expander(title, expanded=not section.records):
                    _show_section(alone, suffix)


def _show_section(section: Section, suffix: str = "") -> None:
    if not section.records:
        st.info("Not run yet. The form below measures it." if section.name in TARGETS else "Not run yet.")
    for record in section.records:
        rows = "" if len(section.records) == 1 else f"{'; '.join(section.rows_of(record))}. "
        _show_provenance(record, rows)
    for drawing in drawings(section):
        rows = drawing.rows.rename(columns={name: f"{name}_percent" for name in drawing.in_percent})
        show_chart(drawing.figure, rows, f"{section.name}{suffix}-{drawing.name}", drawing.about)
    if section.entries:
        _show_numbers(section.entries)
    for note in section.notes:
        st.markdown(f"- {note}")


def _show_provenance(record: Record, rows: str) -> None:
    seeds = f"seeds {', '.join(map(str, record.seeds))}" if record.seeds else "seeds not told"
    st.caption(
        f"{rows}Measured {record.written[:10]}; {seeds}; {record.data}; {record.machine}; commit {record.commit or 'unknown'}; "
        f"{hours_of([record]):.2f} hours of runs."
    )


def _show_numbers(entries: Sequence[Entry]) -> None:
    table = pd.DataFrame(
        {
            "number": entry.what,
            "paper": entry.paper,
            "ours": entry.mean,
            "± std": entry.std,
            "unit": entry.unit,
            "seeds": entry.seeds or None,
            "difference": entry.difference,
            "status": entry.status,
        }
        for entry in entries
    )
    formats = {"ours": _NUMBER, "± std": _NUMBER, "difference": _SIGNED}
    st.dataframe(table, hide_index=True, column_config=formats, placeholder="", alt="The paper's numbers beside ours")
