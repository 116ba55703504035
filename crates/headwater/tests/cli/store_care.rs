//! The care of stores: what nothing needs goes, what is damaged is found and never served.

use super::support::{Home, wait_for};

const MIB: usize = 1 << 20;

#[test]
fn a_prune_keeps_what_is_needed_and_a_dry_run_deletes_nothing() {
    let home = Home::new();
    let _server = home.start();
    home.image("a.raw", 3 * MIB, 8 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    let before = home.store_bytes();
    let would = home.json(&["store", "prune", "--dry-run"]);
    assert_eq!((&would[0]["bytes"], &would[0]["dry_run"]), (&0.into(), &true.into()));
    let pruned = home.json(&["store", "prune", "default"]);
    assert_eq!(pruned[0]["roots"].as_array().unwrap().len(), 0);
    assert_eq!(home.store_bytes(), before);
    home.run(&["vdisk", "delete", "office"]);
    home.run(&["store", "prune"]);
    assert_eq!(home.store_bytes(), 0);
    assert!(home.refused(&["store", "prune", "none"], 3).contains("no share of store none"));
    let actions = home.json(&["audit", "--action", "store.prune", "--actor", "admin"]);
    assert_eq!(actions.as_array().unwrap().len(), 4, "also what found nothing, and what was refused");
}

#[test]
fn a_scrub_finds_a_damaged_chunk_and_says_so() {
    let home = Home::new();
    let server = home.start();
    home.image("a.raw", 3 * MIB, 8 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    home.run(&["store", "scrub", "--now"]);
    let last = || home.json(&["store", "scrub", "--status"])[0]["last"].clone();
    wait_for("the first scrub", || last()["bytes"].as_u64() == Some(3 << 20));
    assert_eq!(last()["bad_chunks"], 0);
    assert_eq!(server.stop(), Some(0));

    let layers = home.path("state/store/layers");
    let layer = std::fs::read_dir(layers).unwrap().next().unwrap().unwrap().path();
    let data = std::fs::read_dir(&layer).map_or(layer.clone(), |files| {
        files.map(|file| file.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    });
    let mut file = std::fs::File::options().write(true).open(data).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(70_000)).unwrap();
    std::io::Write::write_all(&mut file, b"rotten").unwrap();

    let _server = home.start();
    home.run(&["store", "scrub", "--now"]);
    wait_for("the second scrub", || last()["bad_chunks"] == 1);
    assert_eq!(home.json(&["store", "space"])[0]["quarantined_chunks"], 1);
    // Events are written down after what they tell of.
    let kinds = || home.json(&["events", "--kind", "chunk-quarantined,store-scrubbed"]).to_string();
    wait_for("the event of the chunk", || kinds().contains("chunk-quarantined"));
    wait_for("the event of the scrub", || kinds().contains("1 chunks damaged"));
    let said = home.refused(&["vdisk", "export", "office", "out.raw"], 1);
    assert!(!said.is_empty());
}

#[test]
fn a_store_that_runs_out_of_room_is_told_once() {
    let home = Home::new();
    std::fs::write(
        home.path("test.toml"),
        format!(
            "[server]\nname = 'test'\n[http]\nlisten = '127.0.0.1:0'\n[nbd]\nlisten = '127.0.0.1:0'\n\
             [[store]]\nname = 'default'\npath = '{}'\nspace_low_percent = 90\nspace_high_percent = 90\n",
            home.path("state/store").display()
        ),
    )
    .unwrap();
    std::fs::create_dir_all(home.path("state/store")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1g tmpfs {store} && exec {headwater} serve --config {config} --state-dir {state}",
        store = super::support::text(&home.path("state/store")),
        headwater = super::support::HEADWATER,
        config = super::support::text(&home.path("test.toml")),
        state = super::support::text(&home.path("state")),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let server = home.start_by(command);
    assert_eq!(home.json(&["store", "space"])[0]["space"], "ample");
    home.image("a.raw", 150 * MIB, 150 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    assert_eq!(home.json(&["store", "space"])[0]["space"], "low");
    let told = || home.json(&["events", "--kind", "space-low"]).as_array().unwrap().len();
    wait_for("the event", || told() == 1);
    drop(server);
}

#[test]
fn an_offline_check_tells_a_sound_store_from_a_damaged_one_and_from_one_in_use() {
    let home = Home::new();
    let server = home.start();
    home.image("a.raw", 3 * MIB, 8 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    let store = home.path("state/store");
    let check = ["store", "check", super::support::text(&store)];
    let in_use = home.refused(&check, 1);
    assert!(in_use.contains("hint:"), "{in_use}");
    assert_eq!(server.stop(), Some(0));

    let sound = home.json(&check);
    assert_eq!((&sound["ok"], &sound["versions"]), (&true.into(), &1.into()), "{sound}");
    assert_eq!(sound["verified_bytes"], 3 << 20);
    assert!(home.run(&check).contains("0 errors, 0 warnings"));

    let record = std::fs::read_dir(store.join("versions")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    let damaged = home.cli(&[&check[..], &["--output", "json"]].concat()).assert().code(1);
    let found: serde_json::Value = serde_json::from_slice(&damaged.get_output().stdout).unwrap();
    assert_eq!(found["ok"], false, "{found}");
    assert!(found["error_count"].as_u64() > Some(0), "{found}");
    let said = home.refused(&check, 1);
    assert!(said.contains("is damaged") && said.contains("hint:"), "{said}");
}
