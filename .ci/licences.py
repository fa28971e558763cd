"""Checks the licence of every dependency, on all platforms, against the list in deny.toml.

Usage: cargo metadata --format-version 1 --locked | python3 licences.py deny.toml
"""
import json
import re
import sys
import tomllib


def permits(expression, allowed):
    """Whether an SPDX expression can be met with `allowed`: OR needs one side, AND both, WITH belongs to its licence."""
    # Before SPDX, crates wrote MIT/Apache-2.0 for OR.
    tokens = re.findall(r"[()]|[^\s()]+", re.sub(r"\s*/\s*", " OR ", expression))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0) if tokens else ""
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token += " WITH " + tokens.pop(0)
        return token in allowed

    try:
        value = either()
    except (ValueError, IndexError):
        return False
    return value and not tokens


def self_check():
    allowed = {"MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"}
    yes = ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
    no = ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR GPL-3.0", "GPL-3.0 OR (MIT AND LGPL-2.1)", "MIT MIT"]
    assert all(permits(e, allowed) for e in yes) and not any(permits(e, allowed) for e in no)


self_check()
with open(sys.argv[1], "rb") as f:
    allowed = set(tomllib.load(f)["licenses"]["allow"])
packages = json.load(sys.stdin)["packages"]
refused = [p for p in packages if not permits(p["license"] or "", allowed)]
for p in refused:
    print(f"{p['name']} {p['version']}: licence `{p['license']}` is not among those allowed in {sys.argv[1]}")
if refused:
    sys.exit(1)
print(f"{len(packages)} packages, all under allowed licences")
