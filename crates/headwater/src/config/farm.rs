//! `[farm]`: where the farm's records are.

use super::ConfigError;
use farm_db::{EtcdOptions, EtcdTls};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `[farm]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FarmConfig {
    pub(crate) database: Database,
    pub(crate) endpoints: Vec<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// What keeps the farm's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Database {
    /// A file of this server's: a farm of one.
    #[default]
    Embedded,
    /// A cluster that all servers of the farm reach.
    Etcd,
}

impl FarmConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |message: &str, hint: &str| {
            Err(ConfigError::Contradiction { message: message.to_owned(), hint: hint.to_owned() })
        };
        if self.database == Database::Embedded && !self.endpoints.is_empty() {
            return contradiction(
                "farm.endpoints are given, but farm.database is \"embedded\"",
                "set farm.database = \"etcd\" (a farm that is new there begins without records), or leave the endpoints out",
            );
        }
        if self.database == Database::Etcd && self.endpoints.is_empty() {
            return contradiction(
                "farm.database is \"etcd\", but there are no farm.endpoints",
                "give the address of each member: [\"https://10.0.0.5:2379\"]",
            );
        }
        if self.cert.is_some() != self.key.is_some() || (self.cert.is_some() && self.ca.is_none()) {
            return contradiction(
                "farm.ca, farm.cert and farm.key do not go together",
                "give farm.ca for https; farm.cert and farm.key too where etcd asks for a certificate",
            );
        }
        let plain = self.endpoints.iter().find(|endpoint| endpoint.starts_with("http://"));
        match plain.filter(|_| self.ca.is_some()) {
            Some(plain) => {
                contradiction(&format!("farm.ca is given, but {plain} is not https"), "write https://")
            }
            None => Ok(()),
        }
    }

    /// How to reach etcd; reads the certificates.
    pub(crate) fn etcd_options(&self) -> Result<EtcdOptions, ConfigError> {
        let pair = self.cert.as_deref().zip(self.key.as_deref());
        let tls = match &self.ca {
            None => None,
            Some(ca) => Some(EtcdTls {
                ca_pem: pem(ca)?,
                identity_pem: pair.map(|(cert, key)| Ok((pem(cert)?, pem(key)?))).transpose()?,
            }),
        };
        Ok(EtcdOptions { endpoints: self.endpoints.clone(), tls })
    }
}

fn pem(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Contradiction {
        message: format!("the certificate file {} cannot be read: {error}", path.display()),
        hint: "farm.ca, farm.cert and farm.key name PEM files".to_owned(),
    })
}
