//! Which addresses and names lead home.

use super::*;

fn cluster() -> Settings {
    Settings {
        allow_external_backends: true,
        own_addresses: vec![
            "10.244.0.7".parse().expect("an address"),
            "fd00:10::7".parse().expect("an address"),
        ],
        ..Settings::cluster("baribhara")
    }
}

#[test]
fn what_only_the_gateway_can_reach_is_told_from_the_rest() {
    let home = |home| Leads::Home(home);
    let cases = [
        ("10.244.0.8", Leads::Anywhere),
        ("192.0.2.1", Leads::Anywhere),
        ("172.16.0.1", Leads::Anywhere),
        ("fd00:10::8", Leads::Anywhere),
        ("2001:db8::1", Leads::Anywhere),
        ("127.0.0.1", home(Home::Loopback)),
        ("127.255.255.254", home(Home::Loopback)),
        ("::1", home(Home::Loopback)),
        ("::ffff:127.0.0.1", home(Home::Loopback)),
        ("::ffff:7f00:1", home(Home::Loopback)),
        ("64:ff9b::7f00:1", home(Home::Loopback)),
        ("169.254.169.254", home(Home::LinkLocal)),
        ("169.254.0.1", home(Home::LinkLocal)),
        ("::ffff:169.254.169.254", home(Home::LinkLocal)),
        ("64:ff9b::169.254.169.254", home(Home::LinkLocal)),
        ("fe80::1", home(Home::LinkLocal)),
        ("febf::1", home(Home::LinkLocal)),
        ("fe80::1%eth0", home(Home::LinkLocal)),
        ("fd00:ec2::254", home(Home::LinkLocal)),
        ("0.0.0.0", home(Home::Unspecified)),
        ("0.1.2.3", home(Home::Unspecified)),
        ("::", home(Home::Unspecified)),
        ("::ffff:0.0.0.0", home(Home::Unspecified)),
        ("255.255.255.255", home(Home::Unspecified)),
        ("224.0.0.1", home(Home::Multicast)),
        ("239.1.2.3", home(Home::Multicast)),
        ("ff02::1", home(Home::Multicast)),
        ("10.244.0.7", home(Home::OwnAddress)),
        ("::ffff:10.244.0.7", home(Home::OwnAddress)),
        ("fd00:10::7", home(Home::OwnAddress)),
        ("fd00:10:0::0:7", home(Home::OwnAddress)),
        ("api.example.com", Leads::Anywhere),
        ("api.example.com.", Leads::Anywhere),
        ("1password.com", Leads::Anywhere),
        ("0xdead.com", Leads::Anywhere),
        ("localhost.example.com", Leads::Anywhere),
        ("localhost", home(Home::Loopback)),
        ("LOCALHOST.", home(Home::Loopback)),
        ("a.localhost", home(Home::Loopback)),
        ("localhost.localdomain", home(Home::Loopback)),
        ("ip6-localhost", home(Home::Loopback)),
        ("127.1", home(Home::NumericName)),
        ("2130706433", home(Home::NumericName)),
        ("0177.0.0.01", home(Home::NumericName)),
        ("0x7f000001", home(Home::NumericName)),
        ("127.0.0.0X1.", home(Home::NumericName)),
        ("127.0.0.1.", home(Home::NumericName)),
    ];
    for (host, want) in cases {
        assert_eq!(external_leads(host, &cluster()), want, "{host}");
        assert_eq!(endpoint_leads(host, &cluster()), want, "{host} as an endpoint");
    }
}

#[test]
fn each_flag_opens_its_own_door_only() {
    let settings = |external, local| Settings {
        allow_external_backends: external,
        allow_local_endpoints: local,
        ..cluster()
    };
    // host, external backends, local endpoints, as an endpoint, as a way out
    let cases = [
        ("10.0.0.1", false, false, Leads::Anywhere, Leads::Outside),
        ("127.0.0.1", false, true, Leads::Anywhere, Leads::Outside),
        ("127.0.0.1", false, false, Leads::Home(Home::Loopback), Leads::Outside),
        ("127.0.0.1", true, true, Leads::Anywhere, Leads::Anywhere),
        ("a.example.com", false, true, Leads::Outside, Leads::Outside),
        ("a.example.com", true, false, Leads::Anywhere, Leads::Anywhere),
        ("localhost", true, false, Leads::Home(Home::Loopback), Leads::Home(Home::Loopback)),
        ("localhost", false, true, Leads::Outside, Leads::Outside),
        ("localhost", true, true, Leads::Anywhere, Leads::Anywhere),
    ];
    for (host, external, local, endpoint, out) in cases {
        let settings = settings(external, local);
        assert_eq!(endpoint_leads(host, &settings), endpoint, "{host} {external} {local}: endpoint");
        assert_eq!(external_leads(host, &settings), out, "{host} {external} {local}: way out");
    }
}
