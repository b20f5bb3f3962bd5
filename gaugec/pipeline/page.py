"""An audit as one page of HTML: the network as its blocks, every parameter coloured by what is dead in it, the proofs.

The page is whole in itself: no script, no font, nothing that is fetched, and a policy that would let nothing be. All
that comes from a spec or a model is escaped. The same audit gives the same page, to the byte.

What this module does not do: it counts nothing; how the page looks is in `page.css`.
"""

from __future__ import annotations

import html as entities
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gaugec.errors import printable
from gaugec.runtime.certificate import unfolded
from gaugec.version import VERSION

if TYPE_CHECKING:
    from gaugec.pipeline.audited import Audit, Explained, Share

MARK = "<!doctype html>\n<!-- gaugec audit -->"  # how a page begins
HUES = 12  # of the style sheet
SIDE = 4  # repeated layers that are shown before the others are folded
LITTLE = 0.05  # of a direction: what is shown as 0.0
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
BREAKS = re.compile(r"(?<=[._])")


def html(audit: Audit) -> str:
    """The page, as text to be written in UTF-8."""
    return "\n".join([MARK, *_page(audit)]) + "\n"


def _page(audit: Audit) -> Iterator[str]:
    title = f"{audit.model}: {_count(audit.nullity, 'dead direction')}"
    yield '<html lang="en">'
    yield '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_(POLICY)}">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{_(title)}</title>"
    yield f"<style>\n{files('gaugec.pipeline').joinpath('page.css').read_text(encoding='utf-8')}</style></head>"
    yield '<body><a class="skip" href="#network">to the network</a><main>'
    yield from _head(audit)
    yield from _network(audit)
    yield from _gauges(audit)
    yield from _left(audit)
    yield from _proofs(audit)
    yield from _refusals(audit.certificate)
    yield from _how(audit)
    yield f"<footer>gaugec {_(VERSION)}, spec {_(audit.spec)}, sha256 {_(audit.certificate['spec_sha256'])}; "
    yield f"graph of the model sha256 {_(audit.certificate['graph_sha256'])}</footer>"
    yield "</main></body></html>"


# --- the counts


def _head(audit: Audit) -> Iterator[str]:
    yield f"<h1>audit of <b>{_(audit.model)}</b> against the gauges of <b>{_(audit.spec)}</b></h1>"
    yield f'<p class="says">{_says(audit)}</p>'
    parts = [
        ("explained", audit.orbit, "explained"),
        ("unread", audit.unread, "unread"),
        ("data", audit.data or 0, "from the data"),
        ("unexplained", audit.unexplained, "unexplained"),
    ]
    told = ", ".join(f"{number} {word}" for _kind, number, word in parts if number)
    label = f"of {_count(audit.nullity, 'dead direction')}: {told or 'none'}"
    yield f'<div class="bar whole" role="img" aria-label="{label}">'
    yield from _bar([(kind, number) for kind, number, _word in parts], audit.nullity)
    yield '</div><dl class="counts">'
    data = "–" if audit.data is None else str(audit.data)
    yield _number("dead", "", audit.nullity, "directions along which no output moves, whatever the input")
    yield _number("explained", "explained", audit.orbit, "tangents of the gauges' orbits, counted together")
    yield _number("unexplained", "unexplained", audit.unexplained, "dead, and no gauge of the spec says why")
    yield _number("approximate", "", audit.approximate, "more that are dead where every eps is 0")
    yield _number("data", "data", data, "come alive when tables have more rows to look up")
    yield _number("unread", "unread", audit.unread, "entries that nothing reads, at any input")
    yield "</dl>"
    yield from _gap(audit)
    if audit.scaled is not None:
        yield f'<p id="scaled">{_(audit.scaling)}.</p>'
    if audit.notes:
        yield '<ul class="notes" id="notes">' + "".join(f"<li>{_(note)}</li>" for note in audit.notes) + "</ul>"


def _says(audit: Audit) -> str:
    share = f"{100 * audit.nullity / audit.parameters:.1f}" if audit.parameters else "0"
    many = f"{_count(audit.parameters, 'parameter')}, {_count(audit.nullity, 'dead direction')} ({share}&nbsp;%)"
    if not audit.clear:
        return f"{many}, and the count is in doubt"
    left = audit.unexplained + (audit.data or 0)
    return f"{many}: {'every one is explained' if not left and not audit.unread else _most(audit)}"


def _most(audit: Audit) -> str:
    if audit.unexplained:
        return f"{audit.orbit} explained, {audit.unexplained} not"
    return f"{audit.orbit} explained, the others are of the data or never read"


def _number(key: str, kind: str, number: object, words: str) -> str:
    swatch = f'<span class="key {kind}"></span>' if kind else ""
    loud = ' class="loud"' if key == "unexplained" and number else ""
    if key == "data":
        words = "from the data: " + (words if number != "–" else "not known, as inputs are looked up in no table")
    return (
        f'<div{loud}><dt>{swatch}{key}</dt><dd class="number" id="count-{key}">{number}</dd>'
        f"<dd>{words}</dd></div>"
    )


def _gap(audit: Audit) -> Iterator[str]:
    """A scale of singular values, with those that are dead, those that are alive, and nothing between."""
    low, high = _decade(audit.least), round(math.log10(max(audit.alive, 1e-17)), 1)
    left, right = _along(low), _along(high)
    told = f"the least singular value that counts is {audit.alive:.0e} of the largest, the largest that does not is "
    told += f"below 1e{low:d}" if audit.least else "0"
    told += "" if audit.clear else ": no clear gap, so that the count is in doubt"
    yield f'<figure id="gap"{"" if audit.clear else " class=doubt"}>'
    yield f'<svg viewBox="0 0 620 58" role="img" aria-label="{_(told)}">'
    for colour, start, end in (("unread", _along(-18), left), ("good", right, _along(0))):
        box = f'x="{start:.1f}" y="20" width="{end - start:.1f}" height="10" rx="5"'
        yield f'<rect {box} style="fill:var(--{colour})"/>'
    yield f'<path class="between" d="M{left + 4:.1f} 25H{right - 4:.1f}"/>'
    yield f'<text x="{_along(-18)}" y="13">dead</text><text x="{_along(0)}" y="13" text-anchor="end">alive</text>'
    for power in range(-18, 1, 3):
        yield f'<text x="{_along(power)}" y="50" text-anchor="middle">{"1" if not power else f"1e{power}"}</text>'
    yield f"</svg><figcaption>{_(told)}.</figcaption></figure>"


def _decade(value: float) -> int:
    return math.ceil(math.log10(max(value, 1e-18)))


def _along(power: float) -> int | float:
    return round(20 + 580 * (min(max(power, -18), 0) + 18) / 18, 1)


# --- the network


def _network(audit: Audit) -> Iterator[str]:
    yield '<h2 id="network">The network</h2>'
    yield (
        '<p class="lead">Every parameter with the share of it that is dead: the mean diagonal of the projector onto '
        "all dead directions over its entries. That mean times the entries is how many dead directions live there, "
        "in parts; over all parameters they add up to all that are dead. Unfold one for its numbers.</p>"
    )
    hues = _hues(audit)
    flow = ""
    for prefix, blocks in _stacks(audit.shares):
        if prefix is None:
            for name, shares in blocks:
                yield flow
                yield from _block(name, shares, hues)
                flow = '<span class="flow" aria-hidden="true"></span>'
            continue
        yield flow
        flow = '<span class="flow" aria-hidden="true"></span>'
        yield f'<section class="stack"><h3>{_name(prefix)} <span>{_count(len(blocks), "layer")}</span></h3>'
        yield '<div class="columns">'
        for name, shares in blocks[:SIDE]:
            yield from _block(name, shares, hues)
        yield "</div>"
        if rest := blocks[SIDE:]:
            dead = sum(share.dead for _title, shares in rest for share in shares)
            yield f'<details class="fold"><summary>{len(rest)} more, {_part(dead)} dead directions</summary>'
            yield '<div class="inside columns">'
            for name, shares in rest:
                yield from _block(name, shares, hues)
            yield "</div></details>"
        yield "</section>"


Blocks = list[tuple[str, "list[Share]"]]


def _stacks(shares: Iterable[Share]) -> Iterator[tuple[str | None, Blocks]]:
    """Blocks in the order of the model: those that differ in one number side by side, by what they have in common."""
    blocks: dict[tuple[str | None, str], list[Share]] = {}
    for share in shares:
        blocks.setdefault(_home(share.parameter), []).append(share)
    for prefix, group in groupby(blocks.items(), key=lambda item: item[0][0]):
        yield prefix, [(name, own) for (_prefix, name), own in group]


def _home(parameter: str) -> tuple[str | None, str]:
    """The block of a parameter: the path to its first number, or its module; and what is before that number."""
    parts = parameter.split(".")
    for at, part in enumerate(parts[:-1]):
        if part.isdigit():
            return ".".join(parts[:at]), ".".join(parts[: at + 1])
    return None, ".".join(parts[:-1])


def _block(name: str, shares: Sequence[Share], hues: Mapping[str, int]) -> Iterator[str]:
    dead, entries = sum(share.dead for share in shares), sum(share.entries for share in shares)
    yield f'<article class="block"><h4>{_name(name) or "the top"}<span>{_part(dead)} dead of {entries:,}</span></h4>'
    start = len(name) + 1 if name else 0
    for module, group in groupby(shares, key=lambda share: ".".join(share.parameter[start:].split(".")[:-2])):
        yield (f"<h5>{_name(module)}</h5>" if module else "") + '<div class="tiles">'
        for share in group:
            yield from _tile(share, share.parameter[start:][len(module) + 1 if module else 0 :], hues)
        yield "</div>"
    yield "</article>"


def _tile(share: Share, name: str, hues: Mapping[str, int]) -> Iterator[str]:
    parts = _parts(share, hues)
    kind = max(parts, key=lambda part: part[1])[0] if parts else ""
    dead = 100 * share.dead / share.entries if share.entries else 0.0
    yield f'<details class="tile {kind}" style="--dead:{_part(dead)}"><summary><span class="name">{_name(name)}</span>'
    yield f'<span class="part">{round(dead, 6):.0f} % dead</span><span class="bar">'
    yield from _bar(parts, share.entries)
    yield '</span></summary><div class="inside">'
    shape = " × ".join(map(str, share.shape)) or "a number"
    yield f"<p><code>{_name(share.parameter)}</code></p>"
    yield f"<p>{_(shape)}: {_count(share.entries, 'entry', 'entries')}, {_part(share.dead)} dead directions, of which "
    yield f"{_part(share.explained)} are explained</p>"
    rows = [("unread", "nothing reads them", float(share.unread)), ("data", "from the data", share.data)]
    rows.append(("unexplained", "unexplained", share.unexplained))
    rows = [(f"h{hues[gauge]}", gauge, part) for gauge, part in share.gauges] + [row for row in rows if row[2] > LITTLE]
    if rows:
        yield "<table><tbody>"
        for kind, words, part in rows:
            yield f'<tr><td><span class="key {kind}"></span>{_name(words)}</td><td class="n">{_part(part)}</td></tr>'
        yield "</tbody></table>"
    yield "</div></details>"


def _parts(share: Share, hues: Mapping[str, int]) -> list[tuple[str, float]]:
    """By class how much is dead: what is explained is split as the gauges alone have it, for their orbits overlap."""
    total = sum(part for _gauge, part in share.gauges)
    found = [(f"h{hues[gauge]}", share.explained * part / total) for gauge, part in share.gauges]
    found += [("unread", float(share.unread)), ("data", share.data), ("unexplained", share.unexplained)]
    return [(kind, part) for kind, part in found if part > 1e-6]


def _bar(parts: Iterable[tuple[str, float]], whole: float) -> Iterator[str]:
    for kind, part in parts:
        if part and whole:
            yield f'<i class="{kind}" style="width:{_part(100 * part / whole)}%"></i>'


# --- gauges, what they leave, proofs


def _hues(audit: Audit) -> dict[str, int]:
    """A hue for every gauge that has a site, from those that explain most on."""
    found = sorted(_sited(audit), key=lambda gauge: (-gauge.orbit, gauge.gauge))
    return {gauge.gauge: number % HUES for number, gauge in enumerate(found)}


def _sited(audit: Audit) -> list[Explained]:
    return [gauge for gauge in audit.gauges if gauge.sites]


def _gauges(audit: Audit) -> Iterator[str]:
    yield '<h2 id="gauges">What explains them</h2>'
    hues, sited = _hues(audit), _sited(audit)
    if not sited:
        yield "<p>No gauge of the spec has a site in this model.</p>"
        return
    alone = sum(gauge.orbit for gauge in sited)
    told = f"The orbits of single gauges add up to {alone}" + (
        f", {alone - audit.orbit} more than they span together: they overlap" if alone > audit.orbit else ""
    )
    yield f'<p class="lead">{told}. The bar of a parameter is split as the gauges alone reach it.</p>'
    large = "<th class=n>in the large model</th>" if audit.scaled is not None else ""
    yield '<div class="scroll" tabindex="0" role="region" aria-label="gauges"><table><thead><tr><th>gauge</th>'
    yield f"<th>group</th><th class=n>sites</th><th class=n>dead directions</th>{large}</tr></thead><tbody>"
    for gauge in sorted(sited, key=lambda gauge: (-gauge.orbit, gauge.gauge)):
        more = f'<td class="n">{gauge.large:,}</td>' if gauge.large is not None else ""
        yield f'<tr><td><span class="key h{hues[gauge.gauge]}"></span>'
        link = f'<a href="#{_anchor(audit, gauge.gauge)}">{_name(gauge.gauge)}</a>'
        yield f'{link}</td><td>{_(gauge.group)}</td><td class="n">{gauge.sites}</td>'
        yield f'<td class="n">{gauge.orbit}</td>{more}</tr>'
    yield "</tbody></table></div>"


def _left(audit: Audit) -> Iterator[str]:
    if not audit.unexplained:
        return
    yield '<h2 id="unexplained">What is not explained</h2>'
    lead = "Small sets of parameters that carry what is left, beside what is explained and what the sets before carry."
    yield f'<p class="lead">{lead if audit.carriers else "Where they live was not looked for."}</p>'
    for carrier in audit.carriers:
        number, names = carrier.directions, carrier.parameters
        live = f"{number} live{'s' if number == 1 else ''} in"
        swatch = '<span class="key unexplained"></span>'
        if len(names) <= SIDE:
            yield f"<p>{swatch}{live} {' with '.join(f'<code>{_name(name)}</code>' for name in names)}</p>"
            continue
        yield f'<details class="fold"><summary>{swatch}{live} {len(names)} parameters together</summary>'
        yield '<div class="inside"><ul class="plain">'
        yield "".join(f"<li><code>{_name(name)}</code></li>" for name in names) + "</ul></div></details>"


def _anchor(audit: Audit, gauge: str) -> str:
    return f"proof-{[each.gauge for each in audit.gauges].index(gauge)}"


def _proofs(audit: Audit) -> Iterator[str]:
    whole = unfolded(audit.certificate)
    yield '<h2 id="proofs">The proofs</h2>'
    yield '<p class="lead">Every gauge as the spec claims it, proved as a formula, and again on the graph of the model'
    yield "here.</p>"
    known = {gauge.gauge: gauge for gauge in audit.gauges}
    for theorem in whole["theorems"]:
        gauge = known[theorem["gauge"]]
        sites = [site for site in whole["sites"] if site["gauge"] == theorem["gauge"]]
        yield f'<details class="fold" id="{_anchor(audit, gauge.gauge)}"><summary>{_verdict(theorem["verdict"])}'
        yield f"<b>{_name(gauge.gauge)}</b> {_count(len(sites), 'site')}</summary>"
        yield f'<div class="inside"><p>{_(gauge.doc)}</p><pre>{_lines(gauge.theorem)}</pre>'
        yield from _proof(theorem)
        for key in dict.fromkeys(site["structure"] for site in sites):
            here = [site for site in sites if site["structure"] == key]
            structure = whole["structures"][key]
            yield f'<details class="fold"><summary>{_verdict(structure["verdict"])}on the model: '
            yield f'{_count(len(here), "site")} of {_(structure["group"])}</summary><div class="inside">'
            yield from _proof(structure)
            yield '<ul class="plain">'
            for site in here:
                names = ", ".join(f"<code>{_name(name)}</code>" for name in site["parameters"])
                yield f"<li>{_name(site['place'] or 'the top')}: {names}</li>"
            yield "</ul></div></details>"
        yield "</div></details>"


def _proof(proof: Mapping[str, Any]) -> Iterator[str]:
    if proof["conditions"]:
        yield f"<p>if {_('; '.join(proof['conditions']))}</p>"
    if proof["steps"]:
        yield '<ol class="steps">' + "".join(f"<li>{_(step)}</li>" for step in proof["steps"]) + "</ol>"


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {"proved" if verdict == "proved" else ""}">{_(verdict)}</span> '


def _refusals(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What nearly held, and the parameters that no gauge moves, each with why."""
    still = unfolded(certificate)["ungauged"]
    refused = [text for text in certificate["refused"] if text not in still.values()]
    yield '<h2 id="refusals">What was refused</h2>'
    if not refused and not still:
        yield "<p>Nothing: every parameter is moved by a gauge.</p>"
    for title, rows in (
        ("near misses", [("", text) for text in refused]),
        ("parameters that no gauge moves", [(name, str(why)) for name, why in still.items()]),
    ):
        if rows:
            yield f'<details class="fold"><summary>{len(rows)} {title}</summary><div class="inside"><ul class="plain">'
            for name, why in rows:
                yield f"<li>{f'<code>{_name(name)}</code>: ' if name else ''}{_(why)}</li>"
            yield "</ul></div></details>"


def _how(audit: Audit) -> Iterator[str]:
    yield '<h2 id="how">How it was counted</h2>'
    way = (
        "All singular values were taken of the Jacobian"
        if audit.whole
        else "What is known to be dead was projected away, and the least singular values of the rest were found by "
        "inverse iteration, of the Jacobian"
    )
    held = "; rows that were not looked at see nothing of what is called dead" if audit.clear else ""
    yield (
        f"<p>{way}, from {audit.rows:,} products of random cotangents with it at random inputs, in float64 and without "
        f"casts, at random parameters with an eps of 0.1 in every norm{held}. The tangent of a gauge that moves the "
        f"outputs most does so by less than 1e{_decade(audit.error):d} of what the most visible direction does.</p>"
    )


# --- words


def _(text: object) -> str:
    """A text as it is shown, whatever is in it."""
    return entities.escape(printable(str(text)), quote=True)


def _lines(text: str) -> str:
    return "\n".join(map(_, text.split("\n")))


def _name(text: str) -> str:
    """A name, which may be broken behind a dot or an underscore."""
    return "<wbr>".join(_(part) for part in BREAKS.split(text) if part)


def _part(number: float) -> str:
    """One decimal, the same for numbers that differ by rounding."""
    return f"{abs(round(number, 6)):.1f}"


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
