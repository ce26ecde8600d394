//! The status page in a browser, which `scripts/setup browser` installs.

use crate::support::browser::Browser;
use crate::support::watched::{Sending, Watched};
use crate::support::{catch_up, number, query, sender, signal, succeed};
use local_stack::Stack;
use serde_json::json;

fn sum(stack: &Stack, column: &str) -> i64 {
    number(stack, &format!("SELECT coalesce(sum({column}), 0)::bigint FROM pipeline.consumer_offsets"))
}

/// Returns the number in an element, without its thousands separators.
fn shown(browser: &Browser, id: &str) -> i64 {
    let text = browser.text(id);
    text.replace(',', "").parse().unwrap_or(-1)
}

#[test]
#[ignore = "browser"]
fn the_page_agrees_with_postgresql_and_says_when_the_consumer_is_away() {
    let browser = Browser::start();
    let stack = Stack::ephemeral().unwrap();
    let mut consumer = Watched::start(&stack);
    browser.open(&format!("http://{}/", consumer.address));
    let mut generator = sender(&stack, "max");
    generator.args(["--count", "5000", "--no-lake", "--fault", "corrupt=1%,duplicate=2%"]);
    succeed(generator);
    consumer.wait_until("all is in", |_| sum(&stack, "records") - sum(&stack, "duplicates") == 5_000);

    for (id, column) in [("rows", "rows_inserted"), ("duplicates", "duplicates"), ("letters", "dead_letters")] {
        let expected = sum(&stack, column);
        assert!(expected > 0, "{column}");
        browser.wait_until(&format!("{id} is {expected}"), |one| shown(one, id) == expected);
    }
    browser.wait_until("no lag", |one| shown(one, "lag") == 0);
    assert_eq!(browser.text("status"), "ready");
    partitions_agree(&browser, &stack);
    let drawn = "return document.querySelectorAll('#charts svg .curve, #charts svg .dot').length";
    browser.wait_until("six curves", |one| one.run(drawn).as_u64().is_some_and(|curves| curves >= 6));
    keys_look_at_single_seconds(&browser);
    assert_eq!(browser.complaints(), Vec::<String>::new(), "the browser complains about nothing");
    fits(&browser);

    signal(&consumer.child, "-TERM");
    consumer.child.wait().unwrap();
    browser.wait_until("away", |one| one.text("status") == "no answer");
    assert!(browser.text("notice").contains("has not answered since"), "{}", browser.text("notice"));
    assert_eq!(browser.run("return document.getElementById('notice').checkVisibility()"), true);
    assert_eq!(shown(&browser, "rows"), sum(&stack, "rows_inserted"), "the last figures remain");
}

#[test]
#[ignore = "browser"]
fn the_page_says_what_an_outage_is() {
    let browser = Browser::start();
    let mut stack = Stack::ephemeral().unwrap();
    let mut consumer = Watched::start(&stack);
    consumer.wait_until("ready", |one| one.get("/readyz").0 == 200);
    browser.open(&format!("http://{}/", consumer.address));
    browser.wait_until("ready", |one| one.text("status") == "ready");
    let generator = Sending::start(&stack, "1000/s");
    browser.wait_until("rows", |one| shown(one, "rows") > 0);
    stack.postgres.kill().unwrap();
    browser.wait_until("not ready", |one| one.text("status") == "not ready");
    assert!(browser.text("notice").contains("postgres has accepted no batch"), "{}", browser.text("notice"));
    browser.wait_until("the lag grows", |one| shown(one, "lag") > 1_000);
    stack.postgres.restart().unwrap();
    browser.wait_until("ready again", |one| one.text("status") == "ready" && one.text("notice").is_empty());
    generator.end();
    consumer.end();
}

#[test]
#[ignore = "browser"]
fn the_page_says_that_kafka_is_unavailable() {
    let browser = Browser::start();
    let mut stack = Stack::ephemeral().unwrap();
    let mut consumer = Watched::start(&stack);
    consumer.wait_until("ready", |one| one.get("/readyz").0 == 200);
    browser.open(&format!("http://{}/", consumer.address));
    browser.wait_until("no lag", |one| shown(one, "lag") == 0);
    stack.kafka.kill().unwrap();
    browser.wait_until("the outage", |one| one.text("notice").contains("Kafka unavailable since"));
    assert_eq!(browser.text("lag"), "unknown");
    browser.wait_until("not ready", |one| one.text("status") == "not ready");
    stack.kafka.restart().unwrap();
    browser.wait_until("ready again", |one| one.text("status") == "ready" && one.text("notice").is_empty());
    browser.wait_until("no lag again", |one| shown(one, "lag") == 0);
    consumer.end();
}

#[test]
#[ignore = "browser"]
fn the_groups_totals_outlive_the_process_and_the_table_fits_a_narrow_window() {
    let browser = Browser::start();
    let stack = Stack::ephemeral().unwrap();
    let mut generator = sender(&stack, "max");
    generator.args(["--count", "1000", "--no-lake", "--fault", "corrupt=1%"]);
    succeed(generator);
    catch_up(&stack, &[]);
    let consumer = Watched::start(&stack);
    browser.open(&format!("http://{}/", consumer.address));
    for (id, column) in [("rows-all", "rows_inserted"), ("letters-all", "dead_letters")] {
        let text = format!("group: {}", sum(&stack, column));
        browser.wait_until(&text, |one| one.text(id).replace(',', "") == text);
    }
    assert_eq!(shown(&browser, "rows"), 0, "of this process");
    browser.wait_until("no lag", |one| shown(one, "lag") == 0);
    browser.resize(400, 900);
    let scrolled = "const box = document.querySelector('.scroll'); return box.scrollWidth - box.clientWidth";
    browser.wait_until("the table needs no scrolling", |one| one.run(scrolled) == 0);
    let heads = "return [...document.querySelectorAll('#partition-table thead th')]
        .filter((head) => head.checkVisibility()).map((head) => head.textContent)";
    assert_eq!(browser.run(heads), json!(["Partition", "Lag", "Rows", "Dead letters"]));
    consumer.end();
}

fn partitions_agree(browser: &Browser, stack: &Stack) {
    let table = browser.run("return [...document.querySelectorAll('#partitions tr')].map((row) => [...row.cells].slice(0, 7).map((cell) => cell.textContent.replaceAll(',', '')))");
    let rows = query(
        stack,
        "SELECT partition::bigint, next_offset, next_offset, 0::bigint, rows_inserted, duplicates, dead_letters
         FROM pipeline.consumer_offsets ORDER BY partition",
    );
    let line =
        |row: &tokio_postgres::Row| (0..7).map(|column| row.get::<_, i64>(column).to_string()).collect::<Vec<_>>();
    assert_eq!(table, json!(rows.iter().map(line).collect::<Vec<_>>()), "the marks of no transaction are in it");
}

fn keys_look_at_single_seconds(browser: &Browser) {
    let looked = browser.run(
        "const chart = document.querySelector('.chart'); chart.focus();
         chart.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }));
         return [document.querySelectorAll('#charts .cursor').length, chart.querySelector('output').textContent, chart.getAttribute('aria-label')]",
    );
    assert_eq!(looked[0], 4, "all charts look at the same second: {looked}");
    let said = looked[1].as_str().unwrap();
    assert!(said.as_bytes()[2] == b':', "the second's time comes first: {said}");
    assert!(looked[2].as_str().unwrap().contains("in the last 5 minutes"), "{looked}");
}

/// Asserts that nothing overflows the window horizontally, however narrow it is.
fn fits(browser: &Browser) {
    for width in [1_400, 800, 360] {
        browser.resize(width, 900);
        let overhang = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        browser.wait_until(&format!("{width} pixels are enough"), |one| one.run(overhang) == 0);
    }
}
