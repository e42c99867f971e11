#!/usr/bin/env python3
"""Asks a Prometheus that has scraped a gateway every question of the dashboards and alert rules, and fails on those
without an answer. It changes nothing.

    dashboard_check.py URL [--wait SECONDS] [--folder]

The gateway must serve requests meanwhile, some of them refused: a rate needs two scrapes and something between them.
`--wait` asks again until everything has data; `--folder` says that the gateway serves a folder, so that nothing of a
cluster is there. An alert's expression is asked for as it stands, where no data is what one hopes for, and without its
comparison, where there must be some.
"""

import argparse
import json
import math
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import promql  # noqa: E402

# Series that are made on first use: a gateway to which nothing bad has happened has none.
FIRST_USE = {
    "baribhara_retries_total": "no request was retried",
    "baribhara_upstream_connect_failures_total": "every connection to a service came about",
    "baribhara_endpoint_ejections_total": "no endpoint was ejected",
    "baribhara_breaker_rejected_total": "no circuit breaker refused",
    "baribhara_breaker_state": "no circuit breaker is open",
    "baribhara_ratelimit_rejected_total": "no limit refused a request",
    "baribhara_ratelimit_shadowed_total": "no limit in Shadow mode would have refused a request",
    "baribhara_ratelimit_evicted_keys_total": "no limit forgot a key",
    "baribhara_jwks_keys": "no route has keys by URL",
    "baribhara_jwks_age_seconds": "no keys by URL were fetched",
    "baribhara_jwks_fetch_failures_total": "no fetch of keys failed",
    "baribhara_external_auth_total": "no route asks a service who may pass",
    "baribhara_external_auth_duration_seconds": "no service was asked who may pass",
    "ALERTS": "no alert fires, or the rules are not loaded",
}
CLUSTER_ONLY = {"baribhara_watch_up": "a folder has no watches"}
# Selectors that take only a part of a metric's series. `{…}` as in the expression.
PART = {
    'status_code=~"5.."': "no request was answered 5xx",
    'state!="healthy"': "every endpoint is healthy",
}


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def ask(self, path, **parameters):
        data = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", data=data, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error

    def numbers(self, expr):
        """The finite values of an instant query."""
        values = [float(sample["value"][1]) for sample in self.ask("query", query=expr)["result"]]
        return [value for value in values if math.isfinite(value)]

    def label_values(self, selector, label):
        found = self.ask("series", **{"match[]": selector, "start": time.time() - 3600, "end": time.time()})
        return sorted({series[label] for series in found if series.get(label)})


def variables(prometheus, dashboard, problems):
    """The values of all of a dashboard's variables, as Grafana fills them in where All is chosen."""
    values = {"__rate_interval": "1m"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        found = prometheus.label_values(promql.fill(selector, values), label)
        if not found:
            problems.append(f"variable {variable['name']}: no values for {selector}")
        # Escaped once for the regular expression and once for the string of PromQL.
        pattern = "|".join(re.escape(value) for value in found).replace("\\-", "-")
        values[variable["name"]] = pattern.replace("\\", "\\\\")
    return values


def excuse(expr, may_be_empty):
    """Why an expression may have no data, or nothing where it must have some."""
    # `x or 0 * y` has data when y has: that is why it is written so.
    if re.search(r"\bor\s+(0\s*\*|vector)", expr):
        return ""
    families = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in promql.uses(expr).metrics}
    reasons = [may_be_empty[family] for family in sorted(families) if family in may_be_empty]
    return "; ".join(reasons + [reason for part, reason in PART.items() if part in expr])


def check_all(prometheus, may_be_empty):
    """What is wrong, what is empty and may be, and how many expressions there are."""
    problems, empty, count = [], [], 0
    questions = []
    for file, dashboard in promql.dashboards().items():
        values = variables(prometheus, dashboard, problems)
        questions += [(target.name, promql.fill(target.expr, values)) for target in promql.targets(file, dashboard)]
    for rule in promql.rules():
        questions.append((rule.name, promql.without_comparisons(rule.expr)))
        try:
            prometheus.numbers(rule.expr)
        except ValueError as error:
            problems.append(f"{rule.name}: {error}")
        questions += [(f"{rule.name}: {metric}", metric) for metric in sorted(promql.uses(rule.expr).metrics)]
    for name, expr in questions:
        count += 1
        try:
            if prometheus.numbers(expr):
                continue
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        reason = excuse(expr, may_be_empty)
        if reason:
            empty.append(f"{name}: {reason}")
        else:
            problems.append(f"{name}: no data for {' '.join(expr.split())}")
    return problems, empty, count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="ask again for so long")
    parser.add_argument("--folder", action="store_true", help="the gateway serves a folder")
    arguments = parser.parse_args()
    may_be_empty = {**FIRST_USE, **(CLUSTER_ONLY if arguments.folder else {})}
    stale = sorted(set(may_be_empty) - set(promql.documented()) - {"ALERTS"})
    if stale:
        sys.exit(f"dashboard_check.py excuses what is no metric: {' '.join(stale)}")

    prometheus, deadline = Prometheus(arguments.url), time.monotonic() + arguments.wait
    while True:
        problems, empty, count = check_all(prometheus, may_be_empty)
        if not problems or time.monotonic() >= deadline:
            break
        time.sleep(1)
    for line in empty:
        print(f"empty, as it may be: {line}")
    if problems:
        sys.exit("\n".join(problems + [f"dashboards: {len(problems)} of {count} expressions have no data"]))
    print(f"dashboards: {count} expressions, {count - len(empty)} with data")


if __name__ == "__main__":
    main()
