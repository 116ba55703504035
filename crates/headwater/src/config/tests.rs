//! Tests of `config`.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("test.toml"), text).map_err(|error| error.to_string())
}

fn reservation(machine: u8, host: u8) -> ReservationConfig {
    let mac = model::MacAddress([0x52, 0x54, 0, 0, 0, machine]);
    let name = Name::new(&format!("till-{machine}")).unwrap();
    ReservationConfig { mac, address: Ipv4Addr::new(10, 0, 0, host), name: Some(name) }
}

#[test]
fn what_is_explained_is_read_back_as_the_same_configuration() {
    let mut config = Config::load(None).unwrap();
    assert_eq!(parse(&config.explained()).unwrap(), config);
    config.stores.push(StoreConfig::new(Name::new("second").unwrap(), "/srv/second".into()));
    config.dhcp.mode = DhcpMode::Full;
    config.dhcp.pool_start = Some(Ipv4Addr::new(10, 0, 0, 9));
    config.nbd.mapped_cache_bytes = ByteSize(3 << 20);
    config.dhcp.reservations = vec![reservation(1, 20), reservation(2, 21)];
    config.audit.keep_days = 7;
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
    config.dhcp.reservations = vec![reservation(1, 20)];
    config.tftp.enabled = Some(true);
    config.boot.agent = Some("/a".into());
    (config.farm.ca, config.farm.cert, config.farm.key) =
        (Some("/a".into()), Some("/c".into()), Some("/k".into()));
    let table = toml::Table::try_from(&config).unwrap();
    assert_eq!(keys::first_unknown(&table), None);
    for known in keys::KEYS {
        let name = known.key.rsplit('.').next().unwrap();
        let section = match keys::lookup(&table, keys::parent_of(known.key)).unwrap() {
            toml::Value::Array(repeated) => &repeated[0],
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
    let nested = "[[dhcp.reservation]]\nmac = '52:54:00:12:34:56'\nadress = '10.0.0.9'";
    assert!(refused(nested).contains("did you mean dhcp.reservation.address?"), "{}", refused(nested));
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
    assert!(check("[audit]\nkeep_records = 5").contains("audit.keep_records is 5"));
    assert!(check("[events]\nkeep_days = 0").contains("events.keep_days"));
    let store = "[[store]]\nname='a'\npath='/a'\nspace_low_percent = 20";
    assert!(check(store).contains("the low watermark is 20 %"));
}

#[test]
fn a_reservation_that_cannot_be_honoured_is_refused() {
    let check = |text: &str| {
        let pool =
            "mode = 'full'\npool_start = '10.0.0.100'\npool_end = '10.0.0.199'\nnetmask = '255.255.255.0'";
        let gateway = "gateway = '10.0.0.1'";
        parse(&format!("[dhcp]\n{pool}\n{gateway}\n{text}"))
            .unwrap()
            .check()
            .map_err(|error| error.to_string())
    };
    let one = |mac: u8, address: &str| {
        format!("[[dhcp.reservation]]\nmac = '52:54:00:00:00:{mac:02x}'\naddress = '{address}'\n")
    };
    assert_eq!(check(&(one(1, "10.0.0.20") + &one(2, "10.0.0.150"))), Ok(()));
    assert!(
        check(&(one(1, "10.0.0.20") + &one(1, "10.0.0.21"))).unwrap_err().contains("has two reservations")
    );
    assert!(check(&(one(1, "10.0.0.20") + &one(2, "10.0.0.20"))).unwrap_err().contains("is reserved twice"));
    assert!(check(&one(1, "10.0.1.20")).unwrap_err().contains("not in the subnet"));
    assert!(check(&one(1, "10.0.0.255")).unwrap_err().contains("broadcast"));
    assert!(check(&one(1, "10.0.0.1")).unwrap_err().contains("dhcp.gateway"));
    assert!(parse("[[dhcp.reservation]]\nmac = '01:00:5e:00:00:01'\naddress = '10.0.0.9'").is_err());
}
