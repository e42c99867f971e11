"""Reads the dashboards and alert rules as text, and names what their PromQL uses. It asks no Prometheus and writes
nothing; `.ci/alerts` and `dashboard_check.py` do.

The rules are read without a YAML parser, in the one form that rules.yaml keeps: `expr: |` with an indented block, and
every other value on the line of its key. promtool parses them for real.
"""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DASHBOARDS = ROOT / "manifests/dashboards"
RULES = ROOT / "manifests/alerts/rules.yaml"
METRICS = ROOT / "docs/metrics.md"

AGGREGATORS = set(
    "sum min max avg group count stddev stdvar topk bottomk quantile count_values limitk limit_ratio".split()
)
LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS = {"and", "or", "unless", "atan2", "bool", "offset", "start", "end", "inf", "nan"}
TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|\[[^\]]*\])
      |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
      |(?P<number>\d[\w.]*|\.\d+)
      |(?P<word>[A-Za-z_:][\w:]*)
      |(?P<mark>=~|!~|[=!<>]=|[-+*/%^=<>(){},@$])""",
    re.VERBOSE,
)
COMPARISON = re.compile(r"(?:[=!]=|[<>]=?)\s*(?:bool\s+)?-?(?:\d+(?:\.\d+)?)(?:e\d+)?\b")
VARIABLE = re.compile(r"\$\{?(\w+)")


class Uses:
    """The metrics and labels that an expression names."""

    def __init__(self):
        self.metrics, self.labels = set(), set()


class Target:
    """One query of a panel."""

    def __init__(self, file, panel, target):
        self.file, self.panel, self.ref, self.expr = file, panel, target["refId"], target["expr"]
        self.name = f"{file}: {panel} {self.ref}"


class Rule:
    """One alert."""

    def __init__(self, alert, severity, expr, annotations):
        self.alert, self.severity, self.expr, self.annotations = alert, severity, expr, annotations
        self.name = f"{alert} ({severity})"


def tokens(expr):
    at, found = 0, []
    while at < len(expr):
        match = TOKEN.match(expr, at)
        if not match:
            raise ValueError(f"cannot read {expr[at:at + 20]!r} in {expr!r}")
        at = match.end()
        if match.lastgroup != "skip":
            found.append((match.lastgroup, match.group()))
    return found


def uses(expr):
    """Words are metrics unless they are followed by what only functions and label lists have."""
    result, found, at = Uses(), tokens(expr), 0
    while at < len(found):
        kind, text = found[at]
        following = found[at + 1][1] if at + 1 < len(found) else ""
        at += 1
        if text == "{":
            end = next(i for i in range(at, len(found)) if found[i][1] == "}")
            result.labels |= {word for (sort, word) in found[at:end] if sort == "word"}
            at = end + 1
        elif kind != "word":
            continue
        elif text in LABEL_LISTS:
            if following == "(":
                end = next(i for i in range(at, len(found)) if found[i][1] == ")")
                result.labels |= {word for (sort, word) in found[at:end] if sort == "word"}
                at = end + 1
        elif following != "(" and text not in AGGREGATORS and text.lower() not in KEYWORDS:
            result.metrics.add(text)
    return result


def without_comparisons(expr):
    """What an alert looks at, whether or not it is too much; for one that looks for nothing, what should be there."""
    return re.sub(r"\babsent\(", "(", COMPARISON.sub("", expr))


def fill(expr, variables):
    """Puts the values in place of a dashboard's variables."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: variables[m.group(1) or m.group(2)], expr)


def documented():
    """The type and labels of each metric, from the table of docs/metrics.md."""
    rows = (line.split(" | ") for line in METRICS.read_text().splitlines() if line.startswith("| `"))
    return {row[0][2:].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


def dashboards():
    """Each dashboard by its file's name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def targets(file, dashboard):
    return [
        Target(file, panel["title"], target)
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def rules(text=None):
    """The alerts of rules.yaml; a rule that lacks something has an empty text there."""
    found = []
    for block in re.split(r"^ *- alert: ", RULES.read_text() if text is None else text, flags=re.MULTILINE)[1:]:
        block = re.split(r"^  - name: ", block, flags=re.MULTILINE)[0]
        expr = re.search(r"^( *)expr: \|\n((?:\1 +.*\n)+)", block, re.MULTILINE)
        values = dict(re.findall(r"^ +(severity|summary|description|runbook): (.+)$", block, re.MULTILINE))
        severity = values.pop("severity", "")
        found.append(Rule(block.split("\n")[0].strip(), severity, expr.group(2) if expr else "", values))
    return found
