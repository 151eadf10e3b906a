//! The HTML page in a real browser: read with and without its script, in light and dark, by
//! pointer and by keyboard, wide and narrow.

mod browser;
mod fixtures;

use browser::Browser;
use fixtures::{matrix, report};
use reports::model::{self, Report};
use reports::render::html::Page;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HOSTILE: &str = "</script><script>document.title='owned'</script><b onclick=x>\"'&";

/// A folder with a page of some reports, made as a user makes it.
struct Made {
    _dir: tempfile::TempDir,
    page: PathBuf,
}

fn write(dir: &Path, reports: impl IntoIterator<Item = Report>) {
    std::fs::create_dir_all(dir).expect("writable");
    for (index, report) in reports.into_iter().enumerate() {
        let path = dir.join(format!("{index}.json"));
        model::write(&path, &model::to_json(&report)).expect("writable");
    }
}

fn reports(args: &[&str], dir: &Path) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_reports"))
        .args(args)
        .current_dir(dir)
        .output();
    let output = program.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{args:?}: {said}"
    );
    output
}

fn of_runs(runs: impl IntoIterator<Item = Report>) -> Made {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(&dir.path().join("runs"), runs);
    reports(&["html", "runs", "-o", "page.html"], dir.path());
    let page = dir.path().join("page.html");
    Made { _dir: dir, page }
}

/// Eight runs of each of two sides, the second slower beyond the gate.
fn of_comparison() -> Made {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(
        &dir.path().join("old"),
        (0..8).map(|run| report(run, "host", 1.0)),
    );
    let slower = (0..8).map(|run| {
        let mut report = report(run, "host", 0.8);
        report.hosts[0].kernel.release = "another".to_owned().into();
        report
    });
    write(&dir.path().join("new"), slower);
    let args = [
        "compare",
        "old",
        "new",
        "--gate",
        "3%",
        "--axis",
        "kernel.release",
        "--html",
        "page.html",
    ];
    assert_eq!(
        reports(&args, dir.path()).status.code(),
        Some(1),
        "a regression"
    );
    let page = dir.path().join("page.html");
    Made { _dir: dir, page }
}

/// Five runs of a history of forty, slower since its middle, and on another kernel at its end.
fn of_history() -> Made {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let run = |at: u64| {
        let speed = if at < 20 { 1.0 } else { 0.9 };
        let mut report = report(at % 7, "host", speed);
        report.run.started = (start + jiff::SignedDuration::from_hours(24 * at as i64)).to_string();
        if at >= 34 {
            report.hosts[0].kernel.release = "another".to_owned().into();
        }
        report
    };
    write(&dir.path().join("old"), (0..35).map(run));
    write(&dir.path().join("new"), (35..40).map(run));
    reports(&["trend", "add", "old", "new"], dir.path());
    let args = [
        "html",
        "new",
        "-o",
        "page.html",
        "--history",
        "bench-history.jsonl",
    ];
    reports(&args, dir.path());
    let page = dir.path().join("page.html");
    Made { _dir: dir, page }
}

#[test]
fn the_course_over_a_history_is_read_by_eye_by_key_and_without_a_script() {
    let Some(mut browser) = Browser::start("the_course_over_a_history") else {
        return;
    };
    let made = of_history();
    browser.open(&made.page);
    assert_eq!(browser.complaints(), Vec::<&serde_json::Value>::new());
    let drawn = "document.querySelectorAll('.course figure svg').length";
    assert_eq!(browser.eval(drawn), 6, "two metrics at three sizes");
    browser.eval("document.querySelector('.course figure svg').focus()");
    browser.press("End");
    let note = browser.eval("document.querySelector('.note').textContent");
    let note = note.as_str().unwrap_or_default();
    assert!(
        note.contains("started: 2026-02-09 00:00") && note.contains("this page's"),
        "{note}"
    );
    browser.press("Escape");
    // A link from a change of the environment leads to what changed.
    let led = "document.querySelector(document.querySelector('.changes a').hash).innerText";
    let led = browser.eval(led);
    assert!(
        led.as_str().is_some_and(|led| led.contains("→ another")),
        "{led}"
    );
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&made.page);
    let text = browser.eval("document.body.innerText");
    let text = text.as_str().unwrap_or_default();
    for words in [
        "worse since 2026-01-21 00:00",
        "environment changed",
        "this page's runs",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn hostile_names_do_nothing_and_the_page_needs_no_script() {
    let Some(mut browser) = Browser::start("hostile_names_do_nothing") else {
        return;
    };
    let made = of_runs((0..7).map(|run| report(run, HOSTILE, 1.0)));
    browser.open(&made.page);
    assert_eq!(browser.complaints(), Vec::<&serde_json::Value>::new());
    let requests = browser
        .events
        .iter()
        .filter(|e| e["method"] == "Network.requestWillBeSent");
    assert_eq!(requests.count(), 1, "the page itself and nothing else");
    assert_eq!(browser.eval("document.title"), "benchmark report");
    let scripts = "document.querySelectorAll('script, [onclick], b').length";
    assert_eq!(
        browser.eval(scripts),
        2,
        "the data and the page's own script"
    );
    let data = "JSON.parse(document.getElementById('reports').textContent).length";
    assert_eq!(browser.eval(data), 7);
    // Three cases with three plots each, and two metrics over size.
    assert_eq!(
        browser.eval("document.querySelectorAll('figure.plot').length"),
        11
    );
    let text = "document.body.innerText";
    let with_script = browser.eval(text).as_str().unwrap_or_default().to_owned();
    assert!(
        with_script.contains(HOSTILE),
        "names are text: {with_script}"
    );

    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&made.page);
    let without = browser.eval(text).as_str().unwrap_or_default().to_owned();
    for words in [
        "Measured, with reservations",
        "size_bytes=32768",
        "32.8 GB/s",
        "kernel",
    ] {
        assert!(without.contains(words), "{words}: {without}");
    }
    assert_eq!(
        browser.eval("document.getElementById('filter').offsetParent"),
        json!(null)
    );
    assert!(with_script.contains("Filter") && !without.contains("Filter"));
}

#[test]
fn the_filter_shows_what_fits_and_nothing_else() {
    let Some(mut browser) = Browser::start("the_filter_shows_what_fits") else {
        return;
    };
    let made = of_comparison();
    browser.open(&made.page);
    let visible = "[...document.querySelectorAll('table.forest tr[data-words]')]\
                   .filter((row) => row.checkVisibility()).length";
    assert_eq!(browser.eval(visible), 6, "two metrics at three sizes");
    browser.eval("document.querySelector('#filter input').focus()");
    browser.call("Input.insertText", json!({"text": "BANDWIDTH 512"}));
    assert_eq!(browser.eval(visible), 1, "both words, whatever their case");
    let headings = "[...document.querySelectorAll('table.forest tr.group')]\
                    .filter((row) => row.checkVisibility()).length";
    assert_eq!(
        browser.eval(headings),
        1,
        "headings without rows are hidden"
    );
    let said = browser.eval("document.querySelector('#filter output').value");
    assert!(
        said.as_str().is_some_and(|said| said.contains(" of ")),
        "{said}"
    );
    browser.call("Input.insertText", json!({"text": " nowhere"}));
    assert_eq!(browser.eval(visible), 0);
    browser.eval("document.querySelector('#filter').reset()");
    let choose = |state: &str| {
        format!(
            "(() => {{ const s = document.querySelector('#filter select'); s.value = '{state}'; \
             s.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
        )
    };
    browser.eval(&choose("worse"));
    assert_eq!(browser.eval(visible), 6, "all are worse");
    browser.eval(&choose("better"));
    assert_eq!(browser.eval(visible), 0);
    let sections =
        "[...document.querySelectorAll('main section')].filter((s) => s.checkVisibility()).length";
    assert_eq!(
        browser.eval(sections),
        3,
        "sections have no verdict and stay"
    );
    assert_eq!(browser.complaints(), Vec::<&serde_json::Value>::new());
}

#[test]
fn pointer_and_arrow_keys_tell_what_stands_where() {
    let Some(mut browser) = Browser::start("pointer_and_arrow_keys_tell") else {
        return;
    };
    let made = of_runs((0..8).map(|run| matrix(run, 6)));
    browser.open(&made.page);
    let note = "(() => { const n = document.querySelector('.note'); return n.hidden ? '' : n.textContent; })()";
    let told = |browser: &mut Browser| browser.eval(note).as_str().unwrap_or_default().to_owned();
    assert_eq!(told(&mut browser), "");
    browser.point_at("figure.plot svg", 0.5, 0.5);
    let percentile = told(&mut browser);
    assert!(
        percentile.starts_with("percentile: ") && percentile.contains("µs"),
        "{percentile}"
    );
    let cursor = browser.eval("Number(document.querySelector('.cursor').getAttribute('x1'))");
    assert!(cursor.as_f64().is_some_and(|x| x > 0.0), "{cursor}");

    browser.eval("document.querySelectorAll('figure.plot svg')[1].focus()");
    browser.press("ArrowRight");
    let first = told(&mut browser);
    browser.press("ArrowRight");
    let second = told(&mut browser);
    assert!(
        first.starts_with("time: 50") && second.starts_with("time: 150"),
        "{first} {second}"
    );
    browser.press("End");
    browser.press("ArrowLeft");
    assert!(
        told(&mut browser).contains("cpu_steal in 1"),
        "{}",
        told(&mut browser)
    );
    browser.press("Escape");
    assert_eq!(told(&mut browser), "");

    // Even nodes stand in one rack: the first row and its third number are node-0 and node-4.
    browser.point_at("table.heat tbody td:nth-of-type(3)", 0.5, 0.5);
    assert_eq!(told(&mut browser), "node-0 → node-4: 12.0 GB/s");
    browser.eval("document.querySelectorAll('table.heat tbody td')[2].focus()");
    browser.press("ArrowDown");
    assert_eq!(told(&mut browser), "node-2 → node-4: 1.00 GB/s");
    let racks = browser.eval(
        "[...document.querySelectorAll('table.heat thead tr:first-child th')].map((th) => th.textContent)",
    );
    assert_eq!(racks, json!(["use1-az4, rack-0", "use1-az4, rack-1"]));
    let worst = browser.eval("document.querySelector('figure.map ol li').textContent");
    assert!(
        worst
            .as_str()
            .is_some_and(|worst| worst.contains("node-2") && worst.contains("1.00 GB/s"))
    );
    assert_eq!(browser.complaints(), Vec::<&serde_json::Value>::new());
}

/// Every visible text whose contrast with what lies behind it is below WCAG's 4.5, and every line
/// or dot that carries data whose contrast is below 3.
const FAINT: &str = r#"(() => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  const parse = (css) => {
    const [r, g, b, a = 1] = css.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const linear = [r, g, b].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + .05) / (y + .05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const found = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    const style = getComputedStyle(element);
    if (!node.textContent.trim() || !element.checkVisibility() || style.fontSize === "0px") continue;
    const ink = parse(element.ownerSVGElement ? style.fill : style.color);
    const ratio = contrast(ink, behind(element));
    if (ratio < 4.5) found.add(`${element.tagName}.${element.className} ${style.color}: ${ratio.toFixed(2)}`);
  }
  for (const mark of document.querySelectorAll(".line, .warning, .interval")) {
    const ratio = contrast(parse(getComputedStyle(mark).stroke), behind(mark.closest("figure, td")));
    if (ratio < 3) found.add(`${mark.className.baseVal}: ${ratio.toFixed(2)}`);
  }
  return [...found];
})()"#;

#[test]
fn it_can_be_read_in_light_and_dark_and_on_a_narrow_screen() {
    let Some(mut browser) = Browser::start("it_can_be_read") else {
        return;
    };
    let pages = [
        of_comparison(),
        of_runs((0..8).map(|run| matrix(run, 6))),
        of_runs((0..8).map(|run| report(run, &"long-name-".repeat(20), 1.0))),
        of_history(),
    ];
    for made in &pages {
        for (scheme, paper) in [("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")] {
            browser.look(1280, scheme);
            browser.open(&made.page);
            let background = browser.eval("getComputedStyle(document.body).backgroundColor");
            assert_eq!(background, paper, "{scheme}");
            assert_eq!(browser.eval(FAINT), json!([]), "{scheme}");
        }
        browser.look(400, "light");
        browser.open(&made.page);
        let root =
            "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.documentElement)";
        assert_eq!(browser.eval(root), 0, "nothing but tables scrolls sideways");
    }
}

#[test]
fn everything_drawn_has_a_name_and_a_table() {
    let Some(mut browser) = Browser::start("everything_drawn_has_a_name") else {
        return;
    };
    let of_matrix = of_runs((0..8).map(|run| matrix(run, 6)));
    for made in [of_comparison(), of_matrix, of_history()] {
        browser.open(&made.page);
        let tree = browser.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("a list").iter();
        let images: Vec<_> = nodes
            .filter(|node| node["role"]["value"] == "image" && node["ignored"] == false)
            .collect();
        assert!(images.len() >= 3, "{}", images.len());
        for image in images {
            let name = image["name"]["value"].as_str().unwrap_or_default();
            assert!(!name.is_empty(), "{image}");
        }
        let bare = "[...document.querySelectorAll('figure.plot')]\
                    .filter((f) => f.querySelectorAll('table tbody tr').length === 0).length";
        assert_eq!(
            browser.eval(bare),
            0,
            "each plot has its numbers in a table"
        );
        let unheaded = "[...document.querySelectorAll('table')]\
                        .filter((t) => !t.querySelector('th[scope]')).length";
        assert_eq!(browser.eval(unheaded), 0);
        // What scrolls can be reached and scrolled with the keyboard.
        let stuck =
            "[...document.querySelectorAll('.scroll')].filter((s) => s.tabIndex < 0).length";
        assert_eq!(browser.eval(stuck), 0);
    }
}

#[test]
fn sixty_four_nodes_and_a_hundred_runs_fit_five_megabytes() {
    let alone: Vec<Report> = (0..64u64)
        .flat_map(|node| (0..100).map(move |run| (node, run)))
        .map(|(node, run)| {
            let mut report = report(run, &format!("node-{node}"), 1.0);
            report.cases.truncate(1);
            report
        })
        .collect();
    let page = Page::of_runs("64 nodes alone", &alone).render();
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let together: Vec<Report> = (0..100).map(|run| matrix(run, 64)).collect();
    let page = Page::of_runs("64 nodes together", &together).render();
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
}
