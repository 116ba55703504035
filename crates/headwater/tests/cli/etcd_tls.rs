//! A farm database that speaks TLS and asks for the server's certificate.

use super::support::Home;
use farm_db::etcd_child::{ClusterTls, EtcdCluster};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::path::{Path, PathBuf};

/// An authority that signs certificates for 127.0.0.1.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    /// Makes one whose files are in `dir`.
    fn new(dir: &Path) -> Self {
        std::fs::create_dir(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes the list of certificates that are good no more, by their serials; `revoked.pem`.
    fn revoke(&self, serials: &[u64]) {
        let (now, day) = (time::OffsetDateTime::now_utc(), time::Duration::days(1));
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - day,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - day,
            next_update: now + day,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(self.file("revoked.pem"), list.signed_by(&self.issuer).unwrap().pem().unwrap())
            .unwrap();
    }

    /// Signs a certificate with this serial; `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str, serial: u64) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        // A member shows its certificate to itself, too: etcd's gateway is a client.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

impl Authority {
    /// What the cluster's members use.
    fn of_members(&self, revoked: Option<PathBuf>) -> ClusterTls {
        let (cert, key) = (self.file("member.pem"), self.file("member.key"));
        ClusterTls { ca: self.file("ca.pem"), cert, key, revoked }
    }
}

/// A home on the cluster with these lines in `[farm]`.
fn home_on(cluster: &EtcdCluster, files: &[(&str, PathBuf)]) -> Home {
    let home = Home::new();
    let mut config = std::fs::read_to_string(home.path("test.toml")).unwrap();
    config += &format!("[farm]\ndatabase = 'etcd'\nendpoints = ['{}']\n", cluster.endpoints()[0]);
    for (key, file) in files {
        config += &format!("{key} = '{}'\n", file.display());
    }
    std::fs::write(home.path("test.toml"), config).unwrap();
    home
}

/// What a server says that must not start.
fn refused(home: &Home) -> String {
    let output = home.serve().output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn etcd_is_reached_with_the_certificate_of_its_authority_and_with_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, stranger) =
        (Authority::new(&dir.path().join("farm")), Authority::new(&dir.path().join("stranger")));
    farm.sign("member", 1);
    farm.sign("server", 2);
    stranger.sign("server", 2);
    let etcd = EtcdCluster::start_tls(dir.path(), 1, farm.of_members(None));
    let files = |ca: &Authority, own: &Authority| {
        [("ca", ca.file("ca.pem")), ("cert", own.file("server.pem")), ("key", own.file("server.key"))]
    };

    let home = home_on(&etcd, &files(&farm, &farm));
    let server = home.start();
    home.run(&["collection", "create", "lab"]);
    let status = home.json(&["farm", "status", "--check"]);
    let member = &status["database"]["members"][0];
    assert_eq!(member["healthy"], true, "{status}");
    assert!(member["endpoint"].as_str().unwrap().starts_with("https://"), "{status}");
    assert_eq!(server.stop(), Some(0));

    let unknown_server = refused(&home_on(&etcd, &files(&farm, &stranger)));
    assert!(unknown_server.contains("the farm database cannot be reached"), "{unknown_server}");
    let without = refused(&home_on(&etcd, &files(&farm, &farm)[..1]));
    assert!(without.contains("the farm database cannot be reached"), "{without}");
    let unknown_member = refused(&home_on(&etcd, &files(&stranger, &farm)));
    assert!(unknown_member.contains("certificate"), "{unknown_member}");
}

#[test]
fn a_server_whose_certificate_is_revoked_reaches_etcd_no_more_and_the_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let farm = Authority::new(&dir.path().join("farm"));
    ["member", "pvs01", "pvs02"].iter().zip(1..).for_each(|(name, serial)| farm.sign(name, serial));
    farm.revoke(&[]);
    let mut etcd = EtcdCluster::start_tls(dir.path(), 1, farm.of_members(Some(farm.file("revoked.pem"))));
    let files = |name: &str| {
        let own = |end: &str| farm.file(&format!("{name}.{end}"));
        [("ca", farm.file("ca.pem")), ("cert", own("pem")), ("key", own("key"))]
    };
    let (one, two) = (home_on(&etcd, &files("pvs01")), home_on(&etcd, &files("pvs02")));
    assert_eq!(two.start().stop(), Some(0), "as long as it is a server of the farm");

    farm.revoke(&[3]);
    // Connections that are open stay so: a member that is restarted has none.
    etcd.kill();
    etcd.restart();
    let server = one.start();
    one.run(&["collection", "create", "lab"]);
    assert_eq!(server.stop(), Some(0));
    let again = home_on(&etcd, &files("pvs02"));
    let said = refused(&again);
    assert!(said.contains("the farm database cannot be reached"), "{said}");
}
