"""Maps the columns of a file to the fields of a bar; called by the recognisers and the readers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from kronos_trainer.config import Columns
from kronos_trainer.errors import ConfigError, DataError

FEATURES = ("open", "high", "low", "close", "volume", "amount")
REQUIRED = ("timestamps", "open", "high", "low", "close")

# Names of what pandas writes where an index has none; they count only without a better name.
NAMELESS = ("index", "level_0", "level_1", "__index_level_0__", "__index_level_1__", "unnamed:_0", "unnamed:_1", "")

# The first alias that a file has is taken, and no column twice. One row a language, or a kind of vendor.
_NAMES = {
    "timestamps": """
        timestamps timestamp datetime date_time date time open_time ts dt day t
        trade_time trade_date trading_date tradedate exchange_date datadate quote_date ts_event window_start gmt_time
        bar_time start_time time_key time_open timeopen time_period_start local_time utc_time timestamp_utc
        date/time snapped_at begins_at utc gmt ds dtyyyymmdd date_ymd date1
        时间戳 交易日期 交易时间 日期 时间 日線 日付 年月日 日時 일자 날짜 일시
        datum zeitpunkt zeit fecha data date_de_cotation дата tarih
        unix unix_timestamp unix_time epoch start
    """,
    "open": """
        open o open_price opening_price price_open px_open opening prcod trade_open
        今开 开盘 开盘价 開盤 開盤價 始値 시가 오픈 open_prc
        eröffnung eröffnungskurs eröffn eroeffnung erster erster_kurs anfang
        ouverture ouv apertura abertura otwarcie открытие откр açılış openingskoers
    """,
    "high": """
        high h high_price max price_high px_high prchd trade_high highest
        最高 最高价 最高價 高値 고가 高 high_1
        hoch höchst höchstkurs hoechst tageshoch
        plus_haut +_haut haut máximo maximo máx massimo máxima maxima najwyzszy najwyższy максимум макс yüksek hoog
    """,
    "low": """
        low l low_price min price_low px_low prcld trade_low lowest
        最低 最低价 最低價 安値 저가 低 low_1
        tief tiefst tiefstkurs tagestief
        plus_bas +_bas bas mínimo minimo mín mínima minima najnizszy najniższy минимум мин düşük laag
    """,
    "close": """
        close c close_price closing_price last price_close px_last prccd close/last last_price ltp trade_close settle
        收盘 收盘价 收盤 收盤價 最新价 終値 종가
        schluss schlusskurs schluß letzter zuletzt kurs
        clôture cloture clot dernier fermeture cierre último ultimo chiusura fechamento zamkniecie zamknięcie
        закрытие закр цена kapanış şimdi slot trdprc_1 price
    """,
    "volume": """
        volume vol v tick_volume tickvol base_volume volumefrom volume_traded volume_(btc) px_volume
        total_volume totalvolume number_of_shares no.of_shares no_of_shares volume_(shares) volume_(aggregated)
        total_traded_quantity traded_quantity ttl_trd_qnty cshtrd acvol_uns acvol_1
        成交量 交易量 成交股數 总手 出来高 売買高 거래량
        stücke stuecke stück volumen volumes wolumen объём объем hacim umsatz
    """,
    "amount": """
        amount amt turnover quote_volume quote_asset_volume money total_turnover volumeto
        volume_(currency) traded_value volume_usd volume_usdt volume_quote volumequote turnover_value
        成交额 成交金额 成交金額 总金额 売買代金 거래대금
        volumen_in_euro volumen_eur volumen umsatz_(eur) umsatz capitaux
    """,
    # no names of contracts: those of a continuous future change where it rolls
    "symbol": """
        symbol ticker instrument code ts_code sym order_book_id ric tic secid pair isin wkn
        股票代码 证券代码 基金代码 代码 證券代號 コード 종목코드
    """,
}
ALIASES = {name: tuple(text.split()) for name, text in _NAMES.items()}
ALIASES["timestamps"] += NAMELESS
# A time of day in a column of its own, beside one of dates.
CLOCKS = ("time", "时间", "uhrzeit", "zeit", "hora", "heure", "ora", "godzina", "время", "시간", "時刻", "timestamp")

_NUMBERED = re.compile(r"^\d+[a-z]?[.)]_*")  # Alpha Vantage: '1. open'
_UNIT = re.compile(r"_*[(（\[].*?[)）\]]$")  # Wind: 开盘价(元)


@lru_cache(maxsize=4096)
def normalised(name: str) -> str:
    """A column name without case, spaces, its number and the decoration of vendors: '<OPEN>', '1. open', 'Close*'."""
    text = name.strip().lstrip("#").strip().strip("<>").strip("*").strip().lower().replace(" ", "_").replace("-", "_")
    return _NUMBERED.sub("", text).rstrip(".")


@dataclass
class Found:
    """Places of a file's columns, from 0, by canonical field."""

    places: dict[str, int] = field(default_factory=dict)
    rivals: dict[str, list[int]] = field(default_factory=dict)  # further columns of a field, by preference
    doubled: dict[str, tuple[int, int]] = field(default_factory=dict)  # two columns of one name
    spare: list[int] = field(default_factory=list)  # further columns that may hold the time

    @property
    def missing(self) -> list[str]:
        """Fields that every bar needs and no column is named for."""
        return [name for name in REQUIRED if name not in self.places]

    @property
    def complete(self) -> bool:
        """Whether there is exactly one column for each required field."""
        return not self.missing and not self.doubled


def find(
    header: Sequence[str], given: Mapping[str, str] | None = None, extra: Mapping[str, str] | None = None
) -> Found:
    """Which columns a header has.

    `given` (`data.columns`) names columns as the file does. `extra` has patterns of normalised names, of a layout.
    """
    names: dict[str, list[int]] = {}
    for place, name in enumerate(header):
        key = normalised(name)
        names.setdefault(key, []).append(place)
        plain = _UNIT.sub("", key)
        if plain and plain != key:
            names.setdefault(plain, []).append(place)
    found = Found()
    taken: set[int] = set()
    for canonical, own in (given or {}).items():
        same = [place for place, name in enumerate(header) if name.strip() == own.strip()]
        if same:
            found.places[canonical] = same[0]
            taken.add(same[0])
    for canonical, pattern in (extra or {}).items():
        matching = [place for key, places in names.items() if re.fullmatch(pattern, key) for place in places]
        if canonical not in found.places and (free := [place for place in matching if place not in taken]):
            found.places[canonical] = min(free)
            taken.add(min(free))
    for canonical, aliases in ALIASES.items():
        named = [(alias, [place for place in names.get(alias, ()) if place not in taken]) for alias in aliases]
        hits = [(alias, places) for alias, places in named if places]
        if not hits:
            continue
        if canonical == "timestamps":
            found.spare = [places[0] for _, places in hits]
        if canonical in found.places:
            continue
        alias, places = hits[0]
        if len(places) > 1 and canonical in REQUIRED and alias not in NAMELESS:
            found.doubled[canonical] = (places[0], places[1])
        found.places[canonical] = places[0]
        taken.add(places[0])
        if canonical in FEATURES:
            others = [place for _, more in hits for place in more if place != places[0] and place not in taken]
            if others:
                found.rivals[canonical] = list(dict.fromkeys(others))
    for canonical in list(found.rivals):
        # what another field has taken is no rival
        others = [place for place in found.rivals[canonical] if place not in taken]
        found.rivals[canonical] = others
        if not others:
            del found.rivals[canonical]
    return found


def parse_given(text: str | None) -> Columns | None:
    """`data.columns` as a command line gives it: close=Price,volume=Vol. Raises ConfigError."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in re.split(r",(?=\w+=)", text)]
    try:
        return Columns.model_validate({field.strip(): own.strip() for field, _, own in pairs})
    except ValidationError as error:
        fields = ", ".join(Columns.model_fields)
        problems = (f"{'.'.join(map(str, item['loc'])) or text}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"--columns: {'; '.join(problems)}; write close=Price,...; the fields are {fields}") from None


def check_given(header: Sequence[str], given: Mapping[str, str] | None, file: Path) -> None:
    """Raise DataError where `data.columns` names a column that the file lacks."""
    names = {name.strip() for name in header}
    for canonical, own in (given or {}).items():
        if own.strip() not in names:
            near = difflib.get_close_matches(own, list(names), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{file}: data.columns: no column {own!r} for {canonical}; {_shown(header)}{hint}")


def name_column(header: Sequence[str]) -> int | None:
    """A column `name`: in some files the symbol, in others a company's name, which may change."""
    return next((place for place, name in enumerate(header) if normalised(name) in ("name", "名称", "简称")), None)


def problem(header: Sequence[str], found: Found) -> str:
    """Why the columns of a header are not bars, and how to fix it."""
    for canonical, (first, second) in found.doubled.items():
        return f"two columns for {canonical}: {header[first]!r} and {header[second]!r}; keep one"
    unused = [name for place, name in enumerate(header) if place not in found.places.values()]
    hints = []
    for canonical in found.missing:
        near = difflib.get_close_matches(canonical, [normalised(name) for name in unused], n=1, cutoff=0.6)
        hints += [f"; is {name!r} meant as {canonical}?" for name in unused if near and normalised(name) == near[0]][:1]
    return f"no column for {', '.join(found.missing)}; {_shown(header)}{''.join(hints)}"


def _shown(header: Sequence[str]) -> str:
    names = [name if len(name) <= 40 else name[:40] + "…" for name in header[:12]]
    return f"the header has {', '.join(map(repr, names)) or 'nothing'}{', ...' if len(header) > 12 else ''}"
