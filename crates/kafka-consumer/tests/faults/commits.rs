//! The connection is cut between COMMIT and its response.

use std::time::Duration;

use local_stack::proxy::CutAt;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places, rows};
use crate::test_topic::{caught_up, holds, publish};

#[test]
fn the_answer_to_a_commit_is_lost() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "unanswered", 300_000);
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let mut command = Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer();
    command.args(["--batch-rows", "2000"]);
    let mut member = Member::start(command);
    member.until("rows", |_| rows(&stack) > 0);
    for round in 1..=10 {
        let at = if round % 2 == 0 { CutAt::Answer } else { CutAt::Request };
        proxy.cut_at(b"COMMIT\0", at);
        member.until("a commit is cut", |_| proxy.seen().triggered == round);
    }
    caught_up(&stack, &mut member, Duration::from_secs(30));
    let said = member.stop();
    assert!(said.matches("postgres retry").count() >= 10, "{said}");
    assert!(!said.contains("offset moved by another consumer"), "{said}");
    holds(&stack, "unanswered");
}
