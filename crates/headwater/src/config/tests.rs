//! Tests of `config`.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("test.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn what_is_explained_is_read_back_as_the_same_configuration() {
    let mut config = Config::load(None).unwrap();
    assert_eq!(parse(&config.explained()).unwrap(), config);
    config.stores.push(StoreConfig { name: Name::new("second").unwrap(), path: "/srv/second".into() });
    config.dhcp.mode = DhcpMode::Full;
    config.dhcp.pool_start = Some(Ipv4Addr::new(10, 0, 0, 9));
    config.nbd.mapped_cache_bytes = ByteSize(3 << 20);
    assert_eq!(parse(&config.explained()).unwrap(), config);
}

#[test]
fn every_key_of_the_structs_is_documented() {
    let mut config = Config::load(None).unwrap();
    config.http.advertise = Some(IpAddr::from([10, 0, 0, 1]));
    let any = Some(Ipv4Addr::LOCALHOST);
    (config.nbd.cert, config.nbd.key) = (Some("/c".into()), Some("/k".into()));
    config.dhcp.interface = Some("eth0".to_owned());
    (config.dhcp.pool_start, config.dhcp.pool_end) = (any, any);
    (config.dhcp.netmask, config.dhcp.gateway) = (any, any);
    config.tftp.enabled = Some(true);
    config.boot.agent = Some("/a".into());
    let table = toml::Table::try_from(&config).unwrap();
    assert_eq!(keys::first_unknown(&table), None);
    for known in keys::KEYS {
        let (section, name) = known.key.split_once('.').unwrap();
        let section = match &table[section] {
            toml::Value::Array(stores) => &stores[0],
            section => section,
        };
        assert!(section.get(name).is_some(), "{} is documented and does not exist", known.key);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let refused = |text: &str| parse(text).unwrap_err();
    assert!(refused("[http]\nlisten_on = '0.0.0.0:1'").contains("http.listen_on"));
    assert!(refused("[http]\nlisten_on = '0.0.0.0:1'").contains("did you mean http.listen?"));
    assert!(refused("[htpp]\nlisten = '0.0.0.0:1'").contains("did you mean http?"));
    assert!(refused("[[store]]\nname = 'a'\npaht = '/x'").contains("did you mean store.path?"));
    assert!(refused("zzz = 1").contains("config show"));
}

#[test]
fn a_wrong_value_names_its_line() {
    let error = parse("[nbd]\nlisten = 'nowhere'").unwrap_err();
    assert!(error.contains("line 2"), "{error}");
    assert!(parse("[server]\nname = 'Capital'").unwrap_err().contains("may not stand in a name"));
    assert!(parse("server = 1").is_err());
    assert!(parse("[server").unwrap_err().contains("not TOML"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let check = |text: &str| parse(text).unwrap().check().unwrap_err().to_string();
    assert!(check("[nbd]\ntls = 'required'").contains("nbd.cert"));
    assert!(check("[dhcp]\nmode = 'full'").contains("pool"));
    assert!(check("[[store]]\nname='a'\npath='/a'\n[[store]]\nname='a'\npath='/b'").contains("two stores"));
}
