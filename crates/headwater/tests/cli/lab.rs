//! `headwater lab --servers 3 --once`, without machines: those are in `cargo xtask lab --servers 3 --once`.

use super::support::{HEADWATER, Home, text};

#[test]
fn a_farm_of_three_forms_loses_a_server_and_brings_it_up_to_date() {
    let home = Home::new();
    let image = home.image("office.raw", 8 << 20, 64 << 20);
    // The agent is for machines, of which there are none: any program will do.
    let words =
        ["lab", "--servers", "3", "--machines", "0", "--once", "--timeout", "60", "--agent", HEADWATER];
    let said = home.run(&[&words[..], &["--image", text(&image)]].concat());
    let summary = said.lines().last().unwrap();
    assert!(summary.starts_with("lab: office was imported on pvs01"), "{said}");
    assert!(summary.contains("pvs01 was killed; pvs01 came back"), "{said}");
    assert!(said.contains("$ headwater farm init"), "{said}");
}
