"""Take the pictures of docs/images: the pages of the newest training in HOLTER_HOME.

`python docs/screenshots.py` after `make run`; needs Chromium (Debian: apt-get install chromium).
`python docs/screenshots.py review` takes those of the review page alone, which need a data set that
was ingested.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.cli.options import serving

IMAGES = Path(__file__).parent / "images"


def shoot(url: str, name: str, height: int) -> None:
    """One page into one PNG."""
    with tempfile.TemporaryDirectory() as profile:
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
        words += ["--disable-component-update", "--disable-quic", f"--user-data-dir={profile}"]
        words += [f"--window-size=1400,{height}", "--virtual-time-budget=30000"]
        words += [f"--screenshot={IMAGES / name}", url]
        subprocess.run(words, check=True, capture_output=True, timeout=180)  # noqa: S603 - ours


def shoot_html(text: str, name: str, height: int) -> None:
    """A page of our own into one PNG."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(text)
        shoot(page.as_uri(), name, height)


def shoot_review() -> None:
    """The review page: what there is, a queue, and the record of it that has most AF episodes."""
    from playwright.sync_api import sync_playwright

    from flows.review.library import Library
    from flows.review.people import ensure_owner
    from flows.review.start import review_server
    from tasks.review.passages import true_episodes

    library = Library()
    shelf = next(iter(library.shelves().values()))
    names = [entry.record for entry in shelf.manifest.entries]
    episodes = {name: true_episodes(library.sheet(shelf.name, name).table) for name in names}
    record = max(names, key=lambda name: len(episodes[name]))
    start, end = episodes[record][len(episodes[record]) // 2]
    name, key = ensure_owner()
    pages = {
        "review_queue": f"/queue/{shelf.name}",
        "review_record": f"/record/{shelf.name}/{record}?at={start}&passage={start}-{end}",
    }
    with review_server() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for picture, path in pages.items():
            page = browser.new_page(
                viewport={"width": 1200, "height": 960},
                http_credentials={"username": name, "password": key},
            )
            page.goto(address + path)
            page.wait_for_selector("body[data-ready]")
            page.wait_for_selector(":text('passages to look at')", timeout=600_000)
            page.wait_for_timeout(1000)
            page.screenshot(path=IMAGES / f"{picture}.png")
        browser.close()


def main() -> None:
    """Find the newest finished retraining and take its pictures."""
    with serving():
        import mlflow
        from prefect.client.orchestration import get_client

        from flows.reports.card import card, title
        from storage.audit.lineage import read_lineage
        from storage.audit.versions import read_version
        from storage.registry.signing import trusted_keys
        from storage.registry.tracking import run_page
        from tasks.pages.document import to_html
        from tasks.pages.lineage_page import html

        client = mlflow.MlflowClient()
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.`holter.kind` = 'training'", max_results=1)
        run = runs[0]
        edge = run.data.tags["holter.edge_run_id"]
        with get_client(sync_client=True) as prefect:
            child = prefect.read_flow_run(run.data.tags["prefect.flow_run_id"])
            task = prefect.read_task_run(child.parent_task_run_id)
        flow = f"{prefect.api_url}".removesuffix("/").removesuffix("/api")
        shoot(run_page(run.info.run_id), "mlflow_run.png", 1300)
        shoot(run_page(edge), "mlflow_device.png", 1300)
        (entry,) = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        version = read_version(f"{entry.name}/{entry.version}")
        keys = set(trusted_keys())
        shoot_html(to_html(title(version), card(version)), "card.png", 900)
        shoot_html(html(read_lineage(version.model.reference, keys)), "lineage.png", 760)
        shoot(f"{flow}/flow-runs/flow-run/{task.flow_run_id}", "prefect_flow.png", 900)


if __name__ == "__main__":
    if sys.argv[1:] == ["review"]:
        shoot_review()
    else:
        main()
        shoot_review()
