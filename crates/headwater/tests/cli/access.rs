//! Who may do what: every endpoint is asked by everybody, and what is refused says whom to ask.

use super::support::{Home, Server};
use serde_json::{Value, json};

const ROLES: [&str; 4] = ["read-only", "device-operator", "site-admin", "farm-admin"];

/// The token of a new user with this role; the user is called as the role is.
fn token_of(home: &Home, server: &Server<'_>, role: &str) -> String {
    let full = if role == "site-admin" { "site-admin:default" } else { role };
    let admin = home.admin_token();
    let (status, _) = server.call("POST", "/v1/users", Some(&admin), &json!({"name": role, "role": full}));
    assert_eq!(status, 201);
    let new = json!({"about": "test", "user": role});
    let (status, granted) = server.call("POST", "/v1/tokens", Some(&admin), &new);
    assert_eq!(status, 201, "{granted}");
    granted["token"].as_str().unwrap().to_owned()
}

/// The endpoints as the golden list has them: path, method, role. The one that ends a token comes
/// last.
fn endpoints() -> Vec<(String, String, String)> {
    let mut endpoints: Vec<_> = include_str!("../../golden/endpoints.txt")
        .lines()
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    endpoints.sort_by_key(|(path, ..)| path == "/v1/logout");
    endpoints
}

/// A path whose names name nothing.
fn filled(path: &str) -> String {
    let part = |part: &str| match part {
        "{number}" | "{epoch}" | "{id}" => "4294967295".to_owned(),
        part if part.starts_with('{') => "nothing-is-called-so".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_endpoint_lets_through_whoever_has_its_role_and_nobody_else() {
    let home = Home::new();
    let server = home.start();
    let tokens: Vec<String> = ROLES.iter().map(|role| token_of(&home, &server, role)).collect();
    for (path, method, least) in endpoints() {
        let path = filled(&path);
        let call = |token: Option<&str>| server.status_of(&method, &path, token);
        if least == "anyone" {
            assert_ne!(call(None), 403, "{method} {path}");
            continue;
        }
        assert_eq!(call(None), 401, "{method} {path} without a token");
        assert_eq!(call(Some(&"0".repeat(64))), 401, "{method} {path} with a wrong token");
        let needed = ROLES.iter().position(|role| *role == least).unwrap();
        for (level, role) in ROLES.iter().enumerate() {
            let status = call(Some(&tokens[level]));
            let context = format!("{method} {path} as {role}, needs {least}: {status}");
            match level >= needed {
                true => assert!(status != 403 && status != 401, "{context}"),
                false => assert_eq!(status, 403, "{context}"),
            }
        }
    }
}

#[test]
fn whoever_is_refused_is_told_what_is_missing_and_whom_to_ask_and_stands_in_the_audit() {
    let home = Home::new();
    let server = home.start();
    let anna = json!({"name": "anna", "role": "farm-admin"});
    server.call("POST", "/v1/users", Some(&home.admin_token()), &anna);
    let token = token_of(&home, &server, "read-only");
    let device = json!({"mac": "52:54:00:12:34:56"});
    let (status, answer) = server.call("POST", "/v1/devices", Some(&token), &device);
    assert_eq!(status, 403);
    assert_eq!(answer["message"], "this needs a device operator, and read-only is read-only");
    assert_eq!(answer["hint"], "ask a farm admin: anna");
    let record = &home.json(&["audit", "--actor", "read-only"])[0];
    assert_eq!((record["action"].as_str(), record["result"].as_str()), (Some("device.add"), Some("refused")));
    assert_eq!(record["token"].as_str().unwrap(), token.split('_').nth(1).unwrap());
    assert!(record["from"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn a_head_request_needs_what_a_get_needs() {
    let home = Home::new();
    let server = home.start();
    let token = token_of(&home, &server, "read-only");
    assert_eq!(server.status_of("HEAD", "/v1/users", Some(&token)), 403);
    assert_eq!(server.status_of("HEAD", "/v1/status", Some(&token)), 200);
    assert_eq!(server.status_of("OPTIONS", "/v1/users", None), 401);
    assert_eq!(server.status_of("PUT", "/v1/users", Some(&token)), 405);
    assert_eq!(server.status_of("GET", "/v1/no-such-path", Some(&token)), 404);
}

#[test]
fn a_password_gives_a_token_until_it_is_changed_or_logged_out() {
    let home = Home::new();
    let server = home.start();
    let admin = home.admin_token();
    let anna = json!({"name": "anna", "role": "device-operator", "password": "a long password"});
    assert_eq!(server.call("POST", "/v1/users", Some(&admin), &anna).0, 201);
    let login = |password: &str| {
        server.call("POST", "/v1/login", None, &json!({"name": "anna", "password": password}))
    };
    let (status, refused) = login("not the password");
    assert_eq!((status, &refused["message"]), (401, &json!("name or password is wrong")));
    let unknown = json!({"name": "nobody-here", "password": "x"});
    assert_eq!(server.call("POST", "/v1/login", None, &unknown).1, refused, "who exists is not told");
    let token = |(status, granted): (u16, Value)| {
        assert_eq!(status, 201, "{granted}");
        granted["token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (token(login("a long password")), token(login("a long password")));
    let who = |token: &str| server.call("GET", "/v1/whoami", Some(token), &Value::Null);
    assert_eq!(who(&first).1["name"], "anna");
    assert_eq!(who(&first).1["role"], "device-operator");
    assert_eq!(server.call("POST", "/v1/logout", Some(&first), &Value::Null).0, 204);
    assert_eq!(who(&first).0, 401);
    let change = json!({"old_password": "a long password", "new_password": "another long one"});
    assert_eq!(server.call("POST", "/v1/whoami/password", Some(&second), &change).0, 204);
    assert_eq!(who(&second).0, 401, "logins with the old password are over");
    assert_eq!(login("a long password").0, 401);
    let begun = home.json(&["audit", "--action", "login.begin"]);
    let results: Vec<&str> =
        begun.as_array().unwrap().iter().map(|record| record["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["refused", "refused", "ok", "ok", "refused"]);
    assert_eq!((&begun[2]["actor"], &begun[2]["object"]), (&json!("anna"), &json!("anna")));
    assert_eq!(begun[0]["actor"], "(nobody)");
    assert!(!home.json(&["audit"]).to_string().contains("long"), "passwords are not recorded");
}

#[test]
fn logins_that_fail_again_and_again_have_to_wait_and_are_an_event() {
    let home = Home::new();
    let server = home.start();
    let admin = home.admin_token();
    let anna = json!({"name": "anna", "role": "read-only", "password": "a long password"});
    server.call("POST", "/v1/users", Some(&admin), &anna);
    let wrong = json!({"name": "anna", "password": "wrong"});
    let statuses: Vec<u16> = (0..6).map(|_| server.call("POST", "/v1/login", None, &wrong).0).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    super::support::wait_for("the event", || home.json(&["events"]).to_string().contains("login-limited"));
    assert_eq!(home.json(&["audit", "--action", "login.begin"]).as_array().unwrap().len(), 5);
}

#[test]
fn the_command_line_logs_in_keeps_the_token_for_itself_and_logs_out() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let server = home.start();
    let as_told = |words: &[&str], typed: &str| {
        let output = home.cli(words).write_stdin(typed).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    assert_eq!(home.json(&["whoami"])["name"], "admin");
    as_told(&["user", "create", "anna", "--role", "device-operator"], "a long password\n");
    as_told(&["login", "anna"], "a long password\n");
    assert_eq!(home.json(&["whoami"])["name"], "anna");
    let kept = std::fs::read_dir(home.path("config/headwater/logins")).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    let said = home.refused(&["collection", "create", "lab"], 3);
    assert!(said.contains("this needs a site admin, and anna is device-operator"), "{said}");
    assert_eq!(home.json(&["token", "list"]).as_array().unwrap().len(), 1);
    home.run(&["logout"]);
    assert_eq!(home.json(&["whoami"])["name"], "admin", "the token file is taken again");
    assert!(home.refused(&["logout"], 1).contains("nobody is logged in"));
    assert_eq!(home.json(&["token", "list"]).as_array().unwrap().len(), 0);
    let short = home.cli(&["user", "set-password", "anna"]).write_stdin("short\n").assert().code(3);
    assert!(String::from_utf8_lossy(&short.get_output().stderr).contains("10 characters"));
    let mut wrong = home.cli(&["login", "anna"]);
    let said = wrong.write_stdin("wrong\n").assert().code(3).get_output().stderr.clone();
    assert!(String::from_utf8_lossy(&said).contains("name or password is wrong"));
    drop(server);
}

#[test]
fn a_program_has_a_token_that_may_do_less_and_can_be_revoked() {
    let home = Home::new();
    let _server = home.start();
    home.run(&["user", "create", "ci", "--role", "site-admin:default", "--no-password"]);
    let made =
        home.json(&["token", "create", "nightly", "--user", "ci", "--role", "read-only", "--expires", "1h"]);
    let token = made["token"].as_str().unwrap();
    let as_program = |words: &[&str]| home.cli(words).env("HEADWATER_TOKEN", token).assert();
    as_program(&["status"]).success();
    as_program(&["device", "add", "52:54:00:12:34:56"]).code(3);
    as_program(&["token", "create", "more"]).code(3);
    let listed = home.json(&["token", "list"]);
    assert_eq!((&listed[0]["about"], &listed[0]["role"]), (&json!("nightly"), &json!("read-only")));
    assert!(home.refused(&["token", "create", "of the token file"], 3).contains("admin is no user"));
    home.run(&["token", "revoke", made["id"].as_str().unwrap()]);
    as_program(&["status"]).code(3);
    home.run(&["user", "create", "anna", "--role", "farm-admin", "--no-password"]);
    assert!(home.refused(&["user", "delete", "anna"], 3).contains("last farm admin"));
    assert!(home.refused(&["user", "set-role", "anna", "read-only"], 3).contains("last farm admin"));
    home.run(&["user", "delete", "ci"]);
    assert_eq!(home.json(&["user", "list"]).as_array().unwrap().len(), 1);
}
