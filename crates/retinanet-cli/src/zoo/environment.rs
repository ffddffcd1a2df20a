//! What the environment says of proxies and certificates, by the variables that curl and OpenSSL go by.

use retinanet_zoo::Proxies;
use std::path::PathBuf;

/// Proxies and trusted certificates, with the variables looked up by `variable`.
pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> (Proxies, Option<PathBuf>) {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let all = first(&["all_proxy", "ALL_PROXY"]);
    let proxies = Proxies {
        // Not `HTTP_PROXY`: a web server sets it from a header of a request, for the programs that it runs.
        http: first(&["http_proxy"]).or_else(|| all.clone()),
        https: first(&["https_proxy", "HTTPS_PROXY"]).or(all),
        except: first(&["no_proxy", "NO_PROXY"])
            .map(|hosts| hosts.split(',').map(|host| host.trim().to_owned()).collect())
            .unwrap_or_default(),
    };
    (proxies, first(&["SSL_CERT_FILE"]).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], http: Option<&str>, https: Option<&str>, except: &[&str]) {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let (found, certificates) = read(lookup);
        let expected = Proxies {
            http: http.map(str::to_owned),
            https: https.map(str::to_owned),
            except: except.iter().map(|&host| host.to_owned()).collect(),
        };
        assert_eq!(found, expected, "{variables:?}");
        assert_eq!(certificates, lookup("SSL_CERT_FILE").map(PathBuf::from));
    }

    #[test]
    fn variables_are_read_as_curl_reads_them() {
        check(&[], None, None, &[]);
        check(&[("https_proxy", "a:1")], None, Some("a:1"), &[]);
        check(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2")], None, Some("b:2"), &[]);
        check(&[("HTTP_PROXY", "a:1")], None, None, &[]);
        check(&[("http_proxy", "a:1"), ("ALL_PROXY", "b:2")], Some("a:1"), Some("b:2"), &[]);
        check(&[("all_proxy", "b:2"), ("https_proxy", "")], Some("b:2"), Some("b:2"), &[]);
        check(&[("no_proxy", "localhost, .example.com")], None, None, &["localhost", ".example.com"]);
        check(&[("SSL_CERT_FILE", "/etc/roots.pem")], None, None, &[]);
    }
}
