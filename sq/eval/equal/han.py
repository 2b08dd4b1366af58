"""Numbers with Chinese words behind them: `12 万` is 120,000, `5 厘米` is 5 cm, `3 个` counts things.

A word that is no unit says nothing about its number, as in English, but where it may change it (`5 个半`, `3 以上`):
such an answer stays as it is, and is compared as text.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import prod

_SCALES = {"百": 100, "千": 1_000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
SCALE = "(?:[百千](?![克米瓦卡帕伏焦赫分])|[万萬亿億])+"
"""Words of scale behind a number; 千米 is a kilometre, and 百分 a percentage."""
_SCALED = re.compile(
    r"(?<![\d.,/^_])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})((?:\.\d{1,9})?)\s*+((?:\\text\s*+\{)?)\s*+"
    rf"({SCALE})(?!\s*\d)",
    re.ASCII,
)
_UNITS = {
    "毫米": "mm", "厘米": "cm", "分米": "dm", "米": "m", "千米": "km", "公里": "km", "英里": "mile", "英尺": "ft",
    "英寸": "inch", "毫克": "mg", "克": "g", "千克": "kg", "公斤": "kg", "磅": "lb", "盎司": "oz", "毫升": "ml",
    "升": "l", "加仑": "gallon", "秒": "s", "分钟": "min", "小时": "hour", "个小时": "hour", "时": "hour", "天": "day",
    "周": "week", "个月": "month", "年": "year", "元": "yuan", "美元": "dollar", "美分": "cent", "欧元": "euro",
    "度": "degree", "ドル": "dollar", "セント": "cent", "달러": "dollar", "개": "items", "명": "items",
}  # fmt: skip
_POWERS = {"平方": "^2", "立方": "^3", "": ""}
_CHANGES = (
    "零一二三四五六七八九十百千万萬亿億兆打半多余几约整未满満超弱强強乗"
    "以上下内外前后左右分之又折割成负不或和与及至到是为的第点比方号乘加减除制"
)
_HAN = r"\u4e00-\u9fff"
_NAME = "|".join(sorted(_UNITS, key=len, reverse=True))
_BEHIND = re.compile(
    r"(?:(?<=[\d)}π%])|(?<=\\pi))\s*+(\\(?:text|mathrm)\s*\{\s*+)?"
    rf"(?:(平方|立方)?({_NAME})(?:\s*[/每]\s*({_NAME}))?|(?:分|超(?=市)|[{_HAN}](?<![{_CHANGES}])){{1,4}})"
    rf"(?![{_HAN}])\s*(?(1)\}})"
)

_MINUTES = re.compile(r"时\}?\s*+\d[\d.]*+\s*+(?:\\text\s*+\{\s*+)?分(?![钟之])")
"""Minutes behind hours, which are no points: `2 小时 30 分`."""


def in_digits(text: str) -> str:
    """`12 万元` as `120000 元`."""
    return _SCALED.sub(_value, text)


def in_latex(text: str) -> str:
    r"""`5 厘米` as `5 \text{cm}`, `3 个` as `3 \text{items}`."""
    return _BEHIND.sub(_unit, _MINUTES.sub(r"\g<0>钟", text))


def _value(match: re.Match[str]) -> str:
    whole, decimals, command, signs = match.groups()
    value = Decimal(whole.replace(",", "") + decimals) * prod(_SCALES[sign] for sign in signs)
    return f"{value.normalize():f} {command}"


def _unit(match: re.Match[str]) -> str:
    _, power, name, per = match.groups()
    if not name:
        return r" \text{items}"
    divided = rf"/\text{{{_UNITS[per]}}}" if per else ""
    return rf" \text{{{_UNITS[name]}}}{_POWERS[power or '']}{divided}"
