//! Users, tokens, and who may do what.

use super::*;
use crate::people::{ApiToken, Level, Role, TokenId, TokenKind, User};
use crate::record::Record;
use crate::rules::people::{self, About, Caller, MAX_TOKENS, NewToken, NewUser, may, role_of};

fn role(text: &str) -> Role {
    text.parse().unwrap()
}

fn token_id(n: usize) -> TokenId {
    format!("{n:010}").parse().unwrap()
}

fn new_token(n: usize, user: &str, kind: TokenKind) -> NewToken {
    let (hash, about) = ("00".to_owned(), "metrics".to_owned());
    NewToken { id: token_id(n), user: name(user), kind, about, role: None, hash, expires: None }
}

impl Memory {
    fn user(&mut self, user: &str, is: &str) {
        let password = Some("$argon2id$x".to_owned());
        let new = NewUser { name: name(user), role: role(is), password };
        self.must(people::create(&self.view, new, at(1)));
    }

    fn token(&mut self, new: NewToken, now: Timestamp) {
        self.must(people::make_token(&self.view, new, now));
    }
}

#[test]
fn users_are_made_once_and_never_called_as_the_token_file_is() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    let make = |user: &str, is: &str| {
        let new = NewUser { name: name(user), role: role(is), password: None };
        kind(people::create(&memory.view, new, at(1)))
    };
    assert_eq!(make("anna", "read-only"), RefusalKind::Exists);
    assert_eq!(make("admin", "read-only"), RefusalKind::Invalid);
    assert_eq!(make("ben", "site-admin:mars"), RefusalKind::NotFound);
    assert!(!format!("{:?}", memory.view.users).contains("argon2id"), "hashes stay out of logs");
}

#[test]
fn the_last_farm_admin_stays_one() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    memory.user("ben", "read-only");
    let (anna, ben) = (name("anna"), name("ben"));
    assert_eq!(kind(people::delete(&memory.view, &anna)), RefusalKind::InUse);
    assert_eq!(kind(people::set_role(&memory.view, &anna, role("site-admin:default"))), RefusalKind::InUse);
    memory.must(people::set_role(&memory.view, &ben, role("farm-admin")));
    // Each demotes the other at the same time: one of both is told.
    let first = people::set_role(&memory.view, &anna, role("read-only")).unwrap();
    let second = people::delete(&memory.view, &ben).unwrap();
    assert!(memory.commit(first));
    assert!(!memory.commit(second), "it relied on anna being an admin");
    assert_eq!(kind(people::delete(&memory.view, &ben)), RefusalKind::InUse);
}

#[test]
fn a_deleted_user_takes_the_tokens_along_and_a_new_one_of_the_name_does_not_get_them() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    memory.user("ben", "device-operator");
    memory.token(new_token(1, "ben", TokenKind::Program), at(2));
    let late = people::make_token(&memory.view, new_token(2, "ben", TokenKind::Program), at(2)).unwrap();
    let token = memory.view.tokens[&token_id(1)].record.clone();
    assert_eq!(role_of(&memory.view, &token, at(3)), Some(role("device-operator")));
    memory.must(people::delete(&memory.view, &name("ben")));
    assert!(memory.view.tokens.is_empty());
    assert!(!memory.commit(late), "made at the same time");
    assert_eq!(role_of(&memory.view, &token, at(3)), None);
    let again = NewUser { name: name("ben"), role: role("farm-admin"), password: None };
    memory.must(people::create(&memory.view, again, at(9)));
    assert_eq!(role_of(&memory.view, &token, at(10)), None, "he is another ben");
}

#[test]
fn a_token_may_do_less_than_its_user_and_never_more() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    memory.user("ben", "device-operator");
    let more = NewToken { role: Some(role("farm-admin")), ..new_token(1, "ben", TokenKind::Program) };
    assert_eq!(kind(people::make_token(&memory.view, more, at(2))), RefusalKind::Invalid);
    let less = NewToken { role: Some(role("device-operator")), ..new_token(1, "ben", TokenKind::Program) };
    memory.token(less, at(2));
    memory.must(people::set_role(&memory.view, &name("ben"), role("read-only")));
    let token = &memory.view.tokens[&token_id(1)];
    assert_eq!(role_of(&memory.view, token, at(3)), Some(role("read-only")), "he was demoted since");
}

#[test]
fn tokens_expire_and_a_users_are_bounded() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    let past = NewToken { expires: Some(at(2)), ..new_token(1, "anna", TokenKind::Login) };
    assert_eq!(kind(people::make_token(&memory.view, past, at(2))), RefusalKind::Invalid);
    let short = NewToken { expires: Some(at(5)), ..new_token(1, "anna", TokenKind::Login) };
    memory.token(short, at(2));
    let token = memory.view.tokens[&token_id(1)].record.clone();
    assert!(role_of(&memory.view, &token, at(4)).is_some());
    assert!(role_of(&memory.view, &token, at(5)).is_none());
    for n in 2..200 {
        memory.token(new_token(n, "anna", TokenKind::Login), at(6 + n as u64));
    }
    assert!(!memory.view.tokens.contains_key(&token_id(1)), "the expired one went");
    assert!(memory.view.tokens.contains_key(&token_id(199)), "the oldest logins went");
    let full = (200..300).find_map(|n| {
        let made = people::make_token(&memory.view, new_token(n, "anna", TokenKind::Program), at(300));
        match made {
            Ok(change) => {
                assert!(memory.commit(change));
                None
            }
            Err(refused) => Some(refused.kind),
        }
    });
    assert_eq!(full, Some(RefusalKind::Limit));
    assert!(memory.view.tokens.len() <= MAX_TOKENS);
    memory.user("ben", "farm-admin");
    let deleted = people::delete(&memory.view, &name("anna")).unwrap();
    assert!(deleted.writes.len() < 100, "one transaction takes 128");
}

#[test]
fn a_new_password_ends_logins_and_leaves_programs() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    memory.token(new_token(1, "anna", TokenKind::Login), at(2));
    memory.token(new_token(2, "anna", TokenKind::Program), at(2));
    memory.must(people::set_password(&memory.view, &name("anna"), Some("$argon2id$y".to_owned())));
    let left: Vec<&TokenId> = memory.view.tokens.keys().collect();
    assert_eq!(left, [&token_id(2)]);
    memory.must(people::revoke_token(&memory.view, &token_id(2)));
    assert_eq!(kind(people::revoke_token(&memory.view, &token_id(2))), RefusalKind::NotFound);
}

#[test]
fn the_use_of_a_token_is_noted_to_the_hour() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    memory.token(new_token(1, "anna", TokenKind::Program), at(2));
    let now = at(4000);
    assert!(memory.commit(people::note_used(&memory.view, &token_id(1), now)));
    assert_eq!(memory.view.tokens[&token_id(1)].last_used.unwrap().0 % 3_600_000, 0);
    let soon = Timestamp(memory.view.tokens[&token_id(1)].last_used.unwrap().0 + 3_599_999);
    assert_eq!(people::note_used(&memory.view, &token_id(1), soon), Change::default());
    assert!(!people::note_used(&memory.view, &token_id(1), Timestamp(soon.0 + 1)).writes.is_empty());
}

#[test]
fn each_level_may_do_what_is_below_it_and_is_told_whom_to_ask() {
    let mut memory = Memory::new();
    memory.user("anna", "farm-admin");
    for is in ["read-only", "device-operator", "site-admin:default", "farm-admin"] {
        let caller = Caller { name: name("ben"), role: role(is) };
        for least in Level::ALL {
            let answer = may(&memory.view, &caller, least, &About::default(), &name("hw1"));
            assert_eq!(answer.is_ok(), caller.role.level() >= least, "{is} {least:?}");
            if let Err(refused) = answer {
                assert_eq!(refused.kind, RefusalKind::NotAllowed);
                assert!(
                    refused.message.contains(least.about()) && refused.hint.contains("anna"),
                    "{refused}"
                );
            }
        }
    }
}

#[test]
fn a_site_admin_reaches_servers_of_the_site_only() {
    let mut memory = Memory::of_three();
    let mut west = memory.view.servers[&name("hw3")].record.clone();
    west.site = name("west");
    let site = crate::topology::Site { revision: FormatRevision, name: name("west") };
    memory.view.put("/sites/west", &site.encode(), 90).unwrap();
    let caller = |site: &str| Caller { name: name("ben"), role: role(&format!("site-admin:{site}")) };
    let office = About { vdisk: Some(name("office")), ..About::default() };
    let allowed = |memory: &Memory, site: &str, about: &About, asked: &str| {
        may(&memory.view, &caller(site), Level::SiteAdmin, about, &name(asked)).is_ok()
    };
    assert!(allowed(&memory, "default", &office, "hw1"));
    memory.view.put("/servers/hw3", &west.encode(), 91).unwrap();
    assert!(!allowed(&memory, "default", &office, "hw1"), "the store lies on hw3 too");
    assert!(!allowed(&memory, "west", &office, "hw3"));
    assert!(allowed(&memory, "default", &About::default(), "hw1"));
    assert!(!allowed(&memory, "default", &About::default(), "hw3"));
    assert!(allowed(&memory, "west", &About::default(), "hw3"));
    let server = |name_: &str| About { server: Some(name(name_)), ..About::default() };
    assert!(
        allowed(&memory, "west", &server("hw3"), "hw1") && !allowed(&memory, "west", &server("hw1"), "hw1")
    );
    let devices = may(&memory.view, &caller("west"), Level::DeviceOperator, &About::default(), &name("hw1"));
    assert!(devices.is_ok(), "devices belong to no site");
}

/// The stored form of revision 1: a change here is a change of the format.
#[test]
fn the_golden_records_of_people_are_read_and_written_to_the_byte() {
    for line in include_str!("../../../golden/people-1.txt").lines() {
        let (key, value) = line.split_once(' ').unwrap();
        let key: crate::key::Key = key.parse().unwrap();
        let written = match &key {
            crate::key::Key::User(_) => User::decode(&key, value.as_bytes()).unwrap().encode(),
            _ => ApiToken::decode(&key, value.as_bytes()).unwrap().encode(),
        };
        assert_eq!(String::from_utf8(written).unwrap(), value);
    }
}
