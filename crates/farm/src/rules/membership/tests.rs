//! Joining, starting, renewing and leaving, on records in memory.

use super::*;
use crate::change::Write;
use crate::record::Record;
use crate::rules::restored;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

fn commit(view: &mut FarmView, change: Change) {
    view.revision += 1;
    for write in change.writes {
        match write {
            Write::Put(key, bytes) => view.put(&key.to_string(), &bytes, view.revision).unwrap(),
            Write::Delete(key) => view.delete(&key.to_string()).unwrap(),
        }
    }
}

fn joining(server: &str) -> Joining {
    Joining { server: name(server), address: format!("{server}:6910"), serial: "4a".repeat(16) }
}

fn farm() -> FarmView {
    let mut view = FarmView::default();
    let authority = FarmAuthority {
        revision: FormatRevision,
        farm: "07".repeat(16),
        certificate: "certificate".to_owned(),
        key: "secret key".to_owned(),
        created: at(0),
    };
    let change = init(&view, authority.clone(), joining("pvs01"), at(0)).unwrap();
    commit(&mut view, change);
    assert_eq!(init(&view, authority, joining("pvs01"), at(0)).unwrap_err().kind, RefusalKind::Exists);
    view
}

fn token(view: &mut FarmView, byte: &str) -> String {
    let hash = byte.repeat(32);
    let change = new_token(view, hash.clone(), at(3600), at(0)).unwrap();
    commit(view, change);
    hash
}

#[test]
fn a_token_lets_one_server_in_once() {
    let mut view = farm();
    let hash = token(&mut view, "ab");
    let change = join(&view, &hash, joining("pvs02"), at(1)).unwrap();
    commit(&mut view, change);
    assert_eq!(view.servers[&name("pvs02")].member.as_ref().unwrap().address, "pvs02:6910");
    let again = join(&view, &hash, joining("pvs03"), at(2)).unwrap_err();
    assert!(again.message.contains("used by server pvs02"), "{again}");
}

#[test]
fn wrong_and_expired_tokens_and_taken_names_are_refused() {
    let mut view = farm();
    let hash = token(&mut view, "ab");
    let kind = |hash: &str, server, now| join(&view, hash, joining(server), now).unwrap_err().kind;
    assert_eq!(kind(&hash, "pvs02", at(3600)), RefusalKind::NotAllowed);
    assert_eq!(kind(&format!("{}cd", &hash[..62]), "pvs02", at(1)), RefusalKind::NotAllowed);
    assert_eq!(kind("", "pvs02", at(1)), RefusalKind::NotAllowed);
    assert_eq!(kind(&hash, "pvs01", at(1)), RefusalKind::Exists);
    let nothing = new_token(&FarmView::default(), hash.clone(), at(9), at(0)).unwrap_err();
    assert!(nothing.hint.contains("farm init"), "{nothing}");
}

#[test]
fn each_start_counts_and_an_older_copy_is_refused() {
    let mut view = farm();
    for (incarnation, before) in [(1, &[][..]), (2, &["m1"]), (5, &["m2", "m3"])] {
        let change = started(&view, &name("pvs01"), start(incarnation, before), at(1)).unwrap();
        commit(&mut view, change);
    }
    let copy = Start { mark: "another".to_owned(), ..start(5, &["m2"]) };
    let older = started(&view, &name("pvs01"), copy, at(1)).unwrap_err();
    assert_eq!(older.kind, RefusalKind::Fenced);
    assert!(older.hint.contains("stop the other machine"), "{older}");
    assert_eq!(view.servers[&name("pvs01")].member.as_ref().unwrap().address, "pvs01:7000");
    assert_eq!(started(&view, &name("pvs09"), start(1, &[]), at(1)).unwrap_err().kind, RefusalKind::NotFound);
}

/// A start whose mark is `m` and its number.
fn start(incarnation: u64, before: &[&str]) -> Start {
    let before = before.iter().map(|mark| (*mark).to_owned()).collect();
    let (mark, address, boot) = (format!("m{incarnation}"), "pvs01:7000".to_owned(), String::new());
    Start { incarnation, mark, before, older_farm: OlderFarm::Refused, address, boot }
}

#[test]
fn of_two_copies_of_a_server_that_count_alike_the_second_is_refused() {
    let mut view = farm();
    let change = started(&view, &name("pvs01"), start(1, &[]), at(1)).unwrap();
    commit(&mut view, change);
    let copy = Start { mark: "copy".to_owned(), ..start(2, &["m1"]) };
    let change = started(&view, &name("pvs01"), start(2, &["m1"]), at(1)).unwrap();
    commit(&mut view, change);
    assert!(started(&view, &name("pvs01"), copy, at(1)).unwrap_err().message.contains("an older copy"));
    let next = Start { mark: "copy of copy".to_owned(), ..start(3, &["copy"]) };
    assert_eq!(started(&view, &name("pvs01"), next, at(1)).unwrap_err().kind, RefusalKind::Fenced);
}

#[test]
fn a_start_whose_transaction_was_not_answered_may_have_been_the_last() {
    let mut view = farm();
    let change = started(&view, &name("pvs01"), start(1, &[]), at(1)).unwrap();
    commit(&mut view, change);
    let third = start(3, &["m1", "m2"]);
    assert!(started(&view, &name("pvs01"), third.clone(), at(1)).is_ok(), "it was not carried out");
    let change = started(&view, &name("pvs01"), start(2, &["m1"]), at(1)).unwrap();
    commit(&mut view, change);
    assert!(started(&view, &name("pvs01"), third.clone(), at(1)).is_ok(), "it was");
    let change = started(&view, &name("pvs01"), third.clone(), at(1)).unwrap();
    commit(&mut view, change);
    assert_eq!(started(&view, &name("pvs01"), third, at(1)).unwrap(), Change::default(), "asked again");
}

#[test]
fn an_older_database_is_refused_unless_an_admin_has_restored_it() {
    let mut view = farm();
    let change = started(&view, &name("pvs01"), start(1, &[]), at(1)).unwrap();
    commit(&mut view, change);
    // The server has started three times since; the records were restored to a state before that.
    let later = start(5, &["m4"]);
    let refused = started(&view, &name("pvs01"), later.clone(), at(1)).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Fenced);
    assert!(refused.message.contains("was restored to an older state"), "{refused}");
    assert!(refused.hint.contains("accept-restored"), "{refused}");
    let accepted = Start { older_farm: OlderFarm::Accepted, ..later };
    let change = started(&view, &name("pvs01"), accepted, at(1)).unwrap();
    commit(&mut view, change);
    assert!(view.restored.is_some(), "until somebody has looked nothing is deleted");
    assert!(started(&view, &name("pvs01"), start(6, &["m5"]), at(1)).is_ok());
    // A state directory that is older than the records is never taken.
    let older = Start { older_farm: OlderFarm::Accepted, ..start(3, &["m2"]) };
    assert_eq!(started(&view, &name("pvs01"), older, at(1)).unwrap_err().kind, RefusalKind::Fenced);
}

#[test]
fn records_that_were_restored_for_all_servers_are_taken_by_each_without_another_word() {
    let mut view = farm();
    let held = restored::hold(&view, at(1));
    commit(&mut view, held);
    assert_eq!(turn(&view, &name("pvs01"), &start(5, &["m4"])), Ok(Turn::OlderFarm));
    let change = started(&view, &name("pvs01"), start(5, &["m4"]), at(2)).unwrap();
    commit(&mut view, change);
    assert_eq!(turn(&view, &name("pvs01"), &start(6, &["m5"])), Ok(Turn::Next));
    let copy = Start { mark: "another".to_owned(), ..start(5, &["m4"]) };
    assert_eq!(turn(&view, &name("pvs01"), &copy).unwrap_err().kind, RefusalKind::Fenced);
}

#[test]
fn the_certificate_before_is_good_until_the_one_after_the_next() {
    let mut view = farm();
    for serial in ["one", "two"] {
        let change = renewed(&view, &name("pvs01"), serial.into()).unwrap();
        commit(&mut view, change);
    }
    assert_eq!(view.servers[&name("pvs01")].member.as_ref().unwrap().serials, ["two", "one"]);
}

#[test]
fn a_removed_server_leaves_nothing_that_is_counted_on() {
    let mut view = farm();
    let hash = token(&mut view, "ab");
    let change = join(&view, &hash, joining("pvs02"), at(1)).unwrap();
    commit(&mut view, change);
    let root = format!("/copies/{}/pvs02", "0a".repeat(32));
    view.put(&root, br#"{"revision":1,"since":1}"#, 9).unwrap();
    view.put("/stores/s", br#"{"revision":1,"name":"s","paths":{"pvs01":"/a","pvs02":"/b"}}"#, 9).unwrap();
    let change = remove(&view, &name("pvs02"), &name("pvs01"), None).unwrap();
    commit(&mut view, change);
    assert!(view.copies.is_empty() && !view.servers.contains_key(&name("pvs02")));
    assert!(!view.stores[&name("s")].paths.contains_key(&name("pvs02")));
    assert_eq!(remove(&view, &name("pvs02"), &name("pvs01"), None).unwrap(), Change::default());
    assert_eq!(remove(&view, &name("pvs01"), &name("pvs01"), None).unwrap_err().kind, RefusalKind::InUse);
}

#[test]
fn a_server_that_alone_has_something_is_removed_only_by_who_confirms_just_these_things() {
    let mut view = farm();
    let hash = token(&mut view, "ab");
    let change = join(&view, &hash, joining("pvs02"), at(1)).unwrap();
    commit(&mut view, change);
    for line in include_str!("../../../golden/records-1.txt").lines() {
        let (key, record) = line.split_once(' ').unwrap();
        if key.starts_with("/orphans/") || key.starts_with("/versions/office/") {
            view.put(key, record.replace("hw1", "pvs02").as_bytes(), 9).unwrap();
        }
    }
    let copy = |server: &str| format!("/copies/{}/{server}", "ab".repeat(32));
    view.put(&copy("pvs02"), br#"{"revision":1,"since":1}"#, 9).unwrap();
    let ask = |view: &FarmView, things: Option<&str>| remove(view, &name("pvs02"), &name("pvs01"), things);

    let refused = ask(&view, None).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::InUse);
    assert!(refused.message.contains("version 1 of vDisk office"), "{refused}");
    assert!(refused.message.contains("discarded changes office.2.e5"), "{refused}");
    let two = digest(&only_on(&view, &name("pvs02")));
    assert!(refused.hint.ends_with(&format!("--give-up {two}`")) && two.len() == 8, "{refused}");
    assert_eq!(ask(&view, Some("2")).unwrap_err().kind, RefusalKind::Changed);

    view.put(&copy("pvs01"), br#"{"revision":1,"since":1}"#, 9).unwrap();
    let one = digest(&only_on(&view, &name("pvs02")));
    assert_eq!(
        ask(&view, Some(&two)).unwrap_err().kind,
        RefusalKind::Changed,
        "another server has the version now"
    );
    let change = ask(&view, Some(&one)).unwrap();
    commit(&mut view, change);
    assert!(view.orphans.is_empty() && !view.servers.contains_key(&name("pvs02")));
    assert!(!is_known(&view, &name("pvs02")));
    assert_eq!(ask(&view, Some(&digest(&[]))).unwrap(), Change::default(), "it is gone already");
    assert_eq!(ask(&view, None).unwrap(), Change::default());
}

#[test]
fn as_many_other_things_are_not_given_up() {
    let of = |what: &str, byte| Only { what: what.to_owned(), root: Root::from_bytes([byte; 32]) };
    let one = digest(&[of("version 3 of vDisk office", 3)]);
    assert_ne!(one, digest(&[of("version 4 of vDisk office", 4)]));
    assert_ne!(one, digest(&[of("version 3 of vDisk office", 4)]), "the same name with other bytes");
}

#[test]
fn a_server_is_known_as_long_as_anything_tells_of_it() {
    let mut view = farm();
    for line in include_str!("../../../golden/records-1.txt").lines() {
        let (key, record) = line.split_once(' ').unwrap();
        if key.starts_with("/orphans/") {
            view.put(key, record.replace("hw1", "pvs02").as_bytes(), 9).unwrap();
        }
    }
    assert!(is_known(&view, &name("pvs02")), "discarded changes are all that is left");
    while remove(&view, &name("pvs02"), &name("pvs01"), None).unwrap() != Change::default() {
        let change = remove(&view, &name("pvs02"), &name("pvs01"), None).unwrap();
        commit(&mut view, change);
    }
    assert!(!is_known(&view, &name("pvs02")));
    view.put("/reading/pvs02", br#"{"revision":1,"reads":[]}"#, 9).unwrap();
    assert!(is_known(&view, &name("pvs02")));
}

#[test]
fn the_records_are_stored_as_documented() {
    let mut view = farm();
    let hash = token(&mut view, "ab");
    let change = join(&view, &hash, joining("pvs02"), at(1)).unwrap();
    commit(&mut view, change);
    let mut written = String::new();
    let authority = view.authority.as_ref().unwrap().record.encode();
    written += &format!("{} {}\n", Key::Authority, String::from_utf8(authority).unwrap());
    for token in view.join_tokens.values() {
        let record = String::from_utf8(token.record.encode()).unwrap();
        written += &format!("{} {record}\n", Key::JoinToken(token.id.clone()));
    }
    for server in view.servers.values() {
        let record = String::from_utf8(server.record.encode()).unwrap();
        written += &format!("{} {record}\n", Key::Server(server.name.clone()));
    }
    assert_eq!(written, include_str!("../../../golden/membership-1.txt"), "what is written now:\n{written}");
}

#[test]
fn the_key_of_the_authority_is_not_printed() {
    let printed = format!("{:?}", farm());
    assert!(!printed.contains("secret key"), "{printed}");
}
