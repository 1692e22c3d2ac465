"""report.html: the findings of an evaluation, with every clip to watch."""

import copy
from importlib import resources
from pathlib import Path

from uniavgen.evaluation.metrics.wer import word_differences
from uniavgen.evaluation.report import Report
from uniavgen.html_report.page import EMBEDDED_BYTES, PageSource, write_page

_PAGE = PageSource(folder=resources.files("uniavgen.evaluation") / "html", name="report")


def write_report_page(report: Report, folder: Path) -> None:
    """Writes report.html, and what it plays, into `folder`."""
    data = copy.deepcopy(report.data)
    for system in data["systems"].values():
        for clip in system["clips"]:
            clip["differences"] = {
                name.partition("/")[2]: word_differences(detail["script_words"], detail["heard_words"])
                for name, detail in clip["details"].items()
                if name.startswith("transcript/")
            }
    files = {row.sha256: row.file for system in report.systems for row in system.rows if row.file and row.sha256}
    write_page(folder / "report.html", _PAGE, report.title, {"report": data}, files, EMBEDDED_BYTES)
