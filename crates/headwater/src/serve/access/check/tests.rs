//! Every endpoint with the role that it needs, as `golden/endpoints.txt` lists them.

use super::*;
use crate::serve::api_routes;
use std::fmt::Write;

/// Changed on purpose: who may use what is a promise to whoever has given roles away.
const GOLDEN: &str = include_str!("../../../../golden/endpoints.txt");

#[test]
fn every_endpoint_needs_the_role_that_the_golden_list_says() {
    let (_, endpoints) = api_routes::routes().into_parts();
    let mut rows = Vec::new();
    for endpoint in &endpoints {
        let method = format!("{:?}", endpoint.method).to_uppercase();
        let Some(least) = endpoint.least else {
            panic!(
                "{method} {} does not say who may use it\n\
                 hint: Endpoint::change(...).least(Least::SiteAdmin), beside its declaration",
                endpoint.path
            );
        };
        rows.push(format!("{} {method} {}", endpoint.path, least.id()));
    }
    rows.sort();
    let mut list = String::new();
    rows.iter().for_each(|row| writeln!(list, "{row}").unwrap());
    assert!(list == GOLDEN, "crates/headwater/golden/endpoints.txt must be\n{list}");
}

#[test]
fn what_a_path_is_about_is_found_by_its_noun() {
    let about = named("/v1/vdisks/{name}/versions/{number}", "/v1/vdisks/win11/versions/3");
    assert_eq!(about, About { vdisk: Name::new("win11").ok(), ..About::default() });
    assert_eq!(named("/v1/stores/{name}/prune", "/v1/stores/fast/prune").store, Name::new("fast").ok());
    assert_eq!(named("/v1/vdisks", "/v1/vdisks"), About::default());
    assert_eq!(named("/v1/vdisks/{name}", "/v1/vdisks/NO NAME"), About::default());
}
