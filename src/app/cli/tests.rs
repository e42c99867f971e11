//! Tests of the command line.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_the_environment_variable_of_its_name() {
    for command in Cli::command().get_subcommands() {
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            if long == "help" || long == "version" {
                continue;
            }
            let want = format!("BARIBHARA_{}", long.to_uppercase().replace('-', "_"));
            let got = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(got, Some(want), "--{long} of {}", command.get_name());
        }
    }
}

#[test]
fn every_flag_of_run_shows_its_default_or_says_that_there_is_none() {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    for arg in run.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let switches =
            ["debug-errors", "allow-external-backends", "allow-local-endpoints", "allow-private-jwks"];
        if ["help", "config", "publish-service", "publish-address"].contains(&long)
            || switches.contains(&long)
        {
            continue;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "--{long} has no help");
        assert!(!arg.get_default_values().is_empty() || help.contains("[default:"), "--{long}: {help}");
    }
}

#[test]
fn run_has_the_defaults_of_the_design() {
    let Command::Run(run) = parse("baribhara run --config d").unwrap().command else { panic!("not run") };
    assert_eq!(run.http.to_string(), "[::]:8080");
    assert_eq!(run.admin.to_string(), "127.0.0.1:9900");
    assert_eq!(run.workers, None);
    assert_eq!(run.ingress_class, "baribhara");
    assert!(run.trusted_proxies.is_empty());
    assert_eq!(run.read_timeout, Duration::from_secs(30));
    assert_eq!(run.write_timeout, Duration::from_secs(30));
    assert_eq!(run.idle_timeout, Duration::from_secs(120));
    assert_eq!(run.max_head, 1 << 20);
    assert_eq!(run.lame_duck, Duration::from_secs(5));
    assert_eq!(run.drain, Duration::from_secs(30));
    assert_eq!(run.max_connection_age, Duration::from_secs(600));
    assert_eq!(run.upstream_idle, Duration::from_secs(4));
    assert_eq!(run.access_log, AccessLogTarget::Stdout);
    assert!(!run.debug_errors);
    assert_eq!(run.log_format, LogFormat::Text);
    assert_eq!(run.underscore_headers, UnderscoreHeaders::Drop);
    assert_eq!(run.h2c, H2c::Auto);
}

#[test]
fn values_out_of_bounds_are_refused_with_the_flag_and_the_reason() {
    let cases = [
        ("run --read-timeout 0s", "--read-timeout", "must be between 100ms and 3600s"),
        ("run --read-timeout 30", "--read-timeout", "the unit is missing"),
        ("run --max-head 1Ki", "--max-head", "must be between 8192 bytes"),
        ("run --workers 0", "--workers", "1..=1024"),
        ("run --http localhost", "--http", "expected ADDRESS:PORT"),
        ("run --trusted-proxies 10.0.0.0/8,x", "--trusted-proxies", "expected an IP address or a network"),
        ("run --underscore-headers maybe", "--underscore-headers", "drop, keep, reject"),
        ("run --h2c on", "--h2c", "auto, off"),
        ("run --no-such-flag", "--no-such-flag", "unexpected argument"),
        ("check", "<DIR>", "required"),
        ("routes", "--config", "required"),
        ("routes --config a --kubeconfig b", "--config", "cannot be used with"),
        ("run --config a --publish-service b/c", "--config", "cannot be used with"),
        ("run --publish-service b", "--publish-service", "expected NAMESPACE/NAME"),
        ("run --watch-namespace a,B", "--watch-namespace", "expected the name of a namespace"),
        ("probe http://a/ --expect 2xx", "--expect", "expected a status"),
        ("token --claim a=b", "--key", "required"),
        ("token --key a --secret b", "--key", "cannot be used with"),
    ];
    for (line, flag, reason) in cases {
        let error = parse(&format!("baribhara {line}")).unwrap_err().to_string();
        assert!(error.contains(flag) && error.contains(reason), "{line}: {error}");
    }
}

#[test]
fn lists_of_networks_are_split_at_commas() {
    let line = "baribhara run --trusted-proxies 10.0.0.0/8,fd00::/8,192.0.2.1";
    let Command::Run(run) = parse(line).unwrap().command else { panic!("not run") };
    let got: Vec<String> = run.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(got, ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]);
}

#[test]
fn lists_of_namespaces_and_addresses_are_split_and_gathered() {
    let line = "baribhara run --watch-namespace shop,web --watch-namespace api --publish-address 192.0.2.1 \
                --publish-address gw.example.com";
    let Command::Run(run) = parse(line).unwrap().command else { panic!("not run") };
    assert_eq!(run.cluster.watch_namespace, ["shop", "web", "api"]);
    assert_eq!(run.cluster.publish_address, ["192.0.2.1", "gw.example.com"]);
    assert_eq!(run.cluster.lease_name, "baribhara-gateway");
}
