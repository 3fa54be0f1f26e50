//! What is promised of the page.

use super::super::samples;
use super::*;

/// Everything between `<` and `>`, which no text may contain.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

#[test]
fn the_page_asks_for_nothing_from_anywhere() {
    for (name, report) in samples::all() {
        let page = page(&report);
        for tag in tags(&page) {
            for way in [" src=", "@import", "<img", "<iframe", " srcset=", " action=", "xlink"] {
                assert!(!format!("<{tag}").contains(way), "{name}: {tag}");
            }
            assert!(!tag.contains(" href=") || tag.contains("href=\"data:,\""), "{name}: {tag}");
        }
        assert!(!include_str!("report.css").contains("url("));
        assert!(page.contains("default-src 'none'"), "{name}");
    }
}

#[test]
fn text_from_outside_never_becomes_markup() {
    let page = page(&samples::bad());
    for evil in ["<script>alert", "<img src", "<b>Conn", "<5>", "\"idle\"=1", "\x1b"] {
        assert!(!page.contains(evil), "{evil}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("&lt;b&gt;Connection reset by peer&lt;/b&gt;"));
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(escaped("<a href=\"x\">&'</a>\0"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;\u{fffd}");
}

#[test]
fn no_figure_is_not_a_number() {
    for (name, report) in samples::all() {
        let page = page(&report);
        let page = page.split("<script>").next().unwrap();
        for text in tags(page).into_iter().chain(page.split('>').filter_map(|rest| rest.split('<').next())) {
            for odd in ["NaN", "inf ", "inf\"", "Infinity", "null"] {
                assert!(!text.contains(odd), "{name}: {odd} in {text}");
            }
        }
    }
}

#[test]
fn every_tag_that_is_opened_is_closed() {
    for (name, report) in samples::all() {
        let page = page(&report);
        let page = page.split("<script>").next().unwrap();
        let mut open = vec![];
        for tag in tags(page) {
            let word = tag.split([' ', '\n', '/']).next().unwrap();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{name}");
            } else if !tag.ends_with('/') && !["!doctype", "meta", "link"].contains(&word) {
                open.push(word);
            }
        }
        assert_eq!(open, ["html", "body"], "{name}");
    }
}

#[test]
fn the_verdict_comes_first_and_not_by_colour_alone() {
    for (report, class, sign, headline) in [
        (samples::success(), "good", "Passed", "Nothing was lost"),
        (samples::restart(), "good", "Passed", "Nothing was lost"),
        (samples::bad(), "bad", "Failed", "17 requests LOST"),
        (samples::nothing(), "bad", "Failed", "FAILED, nothing was measured"),
    ] {
        let page = page(&report);
        let verdict = page.split("<section class=\"verdict ").nth(1).unwrap().split("</section>").next().unwrap();
        assert!(verdict.starts_with(class), "{verdict}");
        assert!(verdict.contains(&format!("<title>{sign}</title>")), "{verdict}");
        assert!(verdict.contains(&format!("<h2>{headline}</h2>")), "{verdict}");
        assert!(page.find("class=\"verdict").unwrap() < page.find("<figure").unwrap_or(usize::MAX));
        assert!(page.contains(&format!("<title>{headline}: ")));
    }
}

#[test]
fn a_section_is_there_when_there_is_something_to_say() {
    let ids = |report| {
        let page = page(&report);
        let ids: Vec<String> =
            page.split("<section id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().into()).collect();
        ids.join(" ")
    };
    assert_eq!(ids(samples::success()), "latency time account generator settings");
    assert_eq!(ids(samples::restart()), "latency time events account ledger errors generator settings");
    assert_eq!(ids(samples::nothing()), "account generator");
}

#[test]
fn every_chart_has_its_figures_in_a_table_and_errors_only_where_there_are_any() {
    for (report, titles) in [
        (samples::success(), "Latency by percentile, Rate, Latency, Connections"),
        (samples::restart(), "Latency by percentile, Rate, Latency, Connections, Errors"),
    ] {
        let page = page(&report);
        let figures: Vec<&str> =
            page.split("<figure").skip(1).map(|rest| rest.split("</figure>").next().unwrap()).collect();
        let named: Vec<&str> =
            figures.iter().map(|figure| figure.split("<h3>").nth(1).unwrap().split('<').next().unwrap()).collect();
        assert_eq!(named.join(", "), titles);
        for figure in figures {
            assert_eq!(figure.matches("<svg").count(), 3);
            assert!(figure.contains("<details><summary>") && figure.contains("<tbody>\n<tr>"), "{figure}");
        }
    }
}

#[test]
fn events_are_marked_on_every_chart_over_time_and_only_there() {
    let page = page(&samples::restart());
    for figure in page.split("<figure").skip(1) {
        let svg = figure.split("</svg>").next().unwrap();
        let over_time = !svg.contains("<title>Latency by percentile");
        for kind in ["drain", "final", "restart"] {
            assert_eq!(svg.contains(&format!(">{kind}</text>")), over_time, "{kind}");
        }
    }
}

#[test]
fn a_very_long_run_is_not_a_very_large_page() {
    let page = page(&samples::long());
    assert!(page.len() < 1_500_000, "{}", page.len());
    assert!(page.contains("77.0 s"));
}

#[test]
fn a_saturated_generator_is_told_with_the_verdict_and_with_its_figures() {
    let page = page(&samples::bad());
    assert!(page.contains("<li>The generator was saturated, so the figures are its own"));
    assert!(page.contains("<strong>The generator was saturated.</strong>"));
    assert!(!self::page(&samples::success()).contains("saturated"));
}

#[test]
fn the_ledger_agrees_or_each_difference_is_told() {
    assert!(page(&samples::restart()).contains("<strong>They agree.</strong>"));
    let page = page(&samples::bad());
    assert!(page.contains("<li>the server answered 20 requests more than the clients saw answered</li>"));
    assert!(!page.contains("They agree"));
}

/// Writes the pages of the samples to the directory that SAMPLE_PAGES names, for a browser to show:
/// see `scripts/page.sh`.
#[test]
#[ignore = "writes files; scripts/page.sh runs it"]
fn the_samples_are_written_as_pages() {
    let dir = std::path::PathBuf::from(std::env::var_os("SAMPLE_PAGES").expect("SAMPLE_PAGES names a directory"));
    for (name, report) in samples::all() {
        std::fs::write(dir.join(name).with_extension("html"), page(&report)).unwrap();
        std::fs::write(dir.join(name).with_extension("txt"), super::super::table::table(&report)).unwrap();
    }
}
