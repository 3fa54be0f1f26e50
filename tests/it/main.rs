//! Every integration test, in one binary.

#[cfg(target_os = "linux")]
mod activation;
mod admin;
mod auth;
mod complaints;
mod delivery;
#[cfg(target_os = "linux")]
mod doctor;
mod drain;
mod ends;
#[cfg(target_os = "linux")]
mod failing_disk;
mod failing_store;
mod journal;
mod journal_cli;
#[cfg(feature = "jwt")]
mod jwt;
mod leaving;
mod limits;
mod load;
mod load_kills;
mod login;
mod logs;
mod metrics;
mod network;
mod page;
mod process;
mod protocol;
#[cfg(any(feature = "redis", feature = "kafka"))]
mod queues;
mod reload;
mod restart;
mod service;
mod services;
mod sessions;
mod settings;
mod shipping;
mod sim;
mod stored_sessions;
#[cfg(all(feature = "redis", feature = "mysql"))]
mod stores;
mod submit;
mod support;
#[cfg(target_os = "linux")]
mod systemd;
#[cfg(target_os = "linux")]
mod tune_host;
mod workers;
