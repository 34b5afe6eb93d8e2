# ruff: noqa: E501 - a layout is easiest to read on one line
"""Bars as vendors, exchanges and libraries write them; a writer for each layout shows what it looks like.

A writer takes bars (timestamps, open, high, low, close, volume, amount) and a path without suffix, and returns the file.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Writer = Callable[[pd.DataFrame, Path], Path]
PRICES = ["open", "high", "low", "close"]

DAILY: dict[str, Writer] = {}  # for bars of days
INTRADAY: dict[str, Writer] = {}  # for bars with a time of day


def bars(
    rows: int = 60, freq: str = "B", start: str = "2023-12-11", seed: int = 0, price: float = 100.0
) -> pd.DataFrame:
    """A random walk whose numbers are short enough to be written in full anywhere."""
    random = np.random.default_rng(seed)
    close = np.round(price * np.exp(np.cumsum(random.normal(0, 0.01, rows))), 2)
    opens = np.round(np.r_[price, close[:-1]], 2)
    high = np.round(np.maximum(opens, close) + random.uniform(0.01, 0.9, rows), 2)
    low = np.round(np.minimum(opens, close) - random.uniform(0.01, 0.9, rows), 2)
    volume = random.integers(1_000, 9_000_000, rows).astype(float)
    frame = pd.DataFrame({"timestamps": pd.date_range(start, periods=rows, freq=freq)})
    frame = frame.assign(open=opens, high=high, low=low, close=close, volume=volume)
    return frame.assign(amount=np.round(volume * (high + low) / 2, 2))


def daily(name: str) -> Callable[[Writer], Writer]:
    def register(writer: Writer) -> Writer:
        DAILY[name] = writer
        return writer

    return register


def intraday(name: str) -> Callable[[Writer], Writer]:
    def register(writer: Writer) -> Writer:
        INTRADAY[name] = writer
        return writer

    return register


def csv(
    columns: str,
    date: str = "%Y-%m-%d",
    *,
    header: bool = True,
    separator: str = ",",
    above: str = "",
    below: str = "",
    encoding: str = "utf-8",
    suffix: str = ".csv",
    reverse: bool = False,
    write: dict[str, Callable[[float], str]] | None = None,
    ending: str = "\n",
    quote: bool = False,
) -> Writer:
    """A table of text. `columns` are words "name=value": the name above and what is below; "_" is a space, "__" is "_".

    Values are t (the stamp), o h l c v a, i (the row number), s, ms, us, ns (epoch) or fixed text.
    """
    words = [word.partition("=") for word in columns.split()]

    def writer(frame: pd.DataFrame, path: Path) -> Path:
        stamps = frame["timestamps"]
        epoch = stamps.astype("datetime64[ns]").astype("int64")
        values: dict[str, list[str]] = {
            **{unit: (epoch // size).astype(str).tolist() for unit, size in EPOCH.items()},
            "t": stamps.dt.strftime(date).tolist(),
            "day": stamps.dt.strftime("%Y-%m-%d").tolist(),
            "i": [str(row) for row in range(len(frame))],
        }
        for letter, field in zip("ohlcva", [*PRICES, "volume", "amount"], strict=True):
            form = (write or {}).get(letter, plain)
            values[letter] = [form(value) for value in frame[field]]
        rows = [
            [values.get(value, [value.replace("_", " ")] * len(frame))[row] for _, _, value in words]
            for row in range(len(frame))
        ]
        if reverse:
            rows.reverse()
        lines = (
            [[name.replace("__", "\0").replace("_", " ").replace("\0", "_") for name, _, _ in words], *rows]
            if header
            else rows
        )
        cells = [[f'"{cell}"' if quote or separator in cell else cell for cell in line] for line in lines]
        text = above + ending.join(separator.join(line) for line in cells) + ending + below
        file = path.with_name(path.name + suffix)
        file.write_bytes(text.encode(encoding))
        return file

    return writer


EPOCH = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def plain(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1000 else repr(float(value))


def comma(value: float) -> str:
    return f"{value:.2f}".replace(".", ",")


def english(value: float) -> str:
    return f"{value:,.2f}"


def german(value: float) -> str:
    return english(value).replace(",", " ").replace(".", ",").replace(" ", ".")


def whole(value: float) -> str:
    return f"{value:,.0f}"


def dollars(value: float) -> str:
    return f"${value:.2f}"


OHLCV = "open=o high=h low=l close=c volume=v"
NAMES = {
    "akshare": "日期=t 股票代码=000001 开盘=o 收盘=c 最高=h 最低=l 成交量=v 成交额=a 振幅=1.1 涨跌幅=0.5 换手率=0.3",
    "akshare-hk": "日期=t 开盘=o 收盘=c 最高=h 最低=l 成交量=v 成交额=a 振幅=1.2 涨跌额=0.1",
    "akshare-futures": "日期=t 开盘价=o 最高价=h 最低价=l 收盘价=c 成交量=v 持仓量=99 动态结算价=0",
    "akshare-sina": "date=t open=o high=h low=l close=c volume=v hold=1 settle=0",
    "baostock": "date=t code=sh.600000 open=o high=h low=l close=c preclose=1 volume=v amount=a adjustflag=3 turn=0.1",
    "joinquant": "=t open=o close=c high=h low=l volume=v money=a",
    "rqdata": "order_book_id=600519.XSHG date=t open=o high=h low=l close=c volume=v total_turnover=a",
    "wind": "代码=600519.SH 简称=贵州茅台 日期=t 开盘价(元)=o 最高价(元)=h 最低价(元)=l 收盘价(元)=c 成交量(股)=v 成交额(元)=a",
    "japanese": "日付=t 始値=o 高値=h 安値=l 終値=c 出来高=v",
    "korean": "일자=t 종가=c 시가=o 고가=h 저가=l 거래량=v 거래대금=a",
    "polish": "Data=t Otwarcie=o Najwyzszy=h Najnizszy=l Zamkniecie=c Wolumen=v",
    "bloomberg": "Date=t PX_OPEN=o PX_HIGH=h PX_LOW=l PX_LAST=c PX_VOLUME=v",
    "refinitiv": "Exchange_Date=t Close=c Net=0.1 %Chg=0.1% Open=o Low=l High=h Volume=v Turnover=a",
    "trth": "#RIC=VOD.L Domain=Market Date-Time=t GMT_Offset=0 Type=End Open=o High=h Low=l Last=c Volume=v",
    "yahoo": "Date=t Open=o High=h Low=l Close=c Adj_Close=1 Volume=v",
    "yfinance": "Date=t Open=o High=h Low=l Close=c Volume=v Dividends=0.0 Stock_Splits=0.0",
    "alphavantage": "timestamp=t open=o high=h low=l close=c adjusted_close=1 volume=v dividend_amount=0",
    "alphavantage-crypto": "timestamp=t 1._open=o 2._high=h 3._low=l 4._close=c 5._volume=v",
    "quandl": "Date=t Open=o High=h Low=l Close=c Volume=v Ex-Dividend=0 Adj._Open=1 Adj._High=1 Adj._Low=1 Adj._Close=1",
    "quantmod": "=t AAPL.Open=o AAPL.High=h AAPL.Low=l AAPL.Close=c AAPL.Volume=v AAPL.Adjusted=1",
    "tiingo": "date=t close=c high=h low=l open=o volume=v adjClose=1 adjHigh=1 adjLow=1 adjOpen=1 adjVolume=1",
    "kaggle-crypto": "SNo=i Name=Bitcoin Symbol=BTC Date=t High=h Low=l Open=o Close=c Volume=v Marketcap=1",
    "nse": "Date=t series=EQ OPEN=o HIGH=h LOW=l PREV._CLOSE=1 ltp=1 close=c vwap=1 VOLUME=v VALUE=a No_of_trades=5",
    "unnamed-counter": "Unnamed:_0=i date=t open=o high=h low=l close=c volume=v",
}
for _name, _columns in NAMES.items():
    DAILY[_name] = csv(_columns)

DAILY["akshare-gbk"] = csv(NAMES["akshare"], encoding="gb18030")
DAILY["tushare"] = csv(
    "=i ts_code=600519.SH trade_date=t open=o high=h low=l close=c pre_close=1 change=0.1 vol=v amount=a",
    "%Y%m%d",
    reverse=True,
)
DAILY["tongdaxin"] = csv(
    "日期=t 开盘=o 最高=h 最低=l 收盘=c 成交量=v 成交额=a",
    "%Y/%m/%d",
    separator="\t",
    encoding="gb18030",
    suffix=".txt",
    above="600519 贵州茅台 日线 前复权\n",
    below="数据来源:通达信\n",
    ending="\r\n",
)
DAILY["twse"] = lambda frame, path: csv(
    "日期=t 成交股數=v 成交金額=a 開盤價=o 最高價=h 最低價=l 收盤價=c 漲跌價差=+1.00 成交筆數=99",
    above='"113年01月 2330 台積電 各日成交資訊"\n',
    encoding="big5",
    quote=True,
    write={"v": whole, "a": english},
)(frame.assign(timestamps=frame["timestamps"]), path)
DAILY["german"] = csv(
    "Datum=t Erster=o Hoch=h Tief=l Schlusskurs=c Stuecke=v Volumen=a",
    "%d.%m.%Y",
    separator=";",
    encoding="cp1252",
    write=dict.fromkeys("ohlca", german) | {"v": lambda value: f"{value:,.0f}".replace(",", ".")},
    reverse=True,
)
DAILY["german-euro"] = csv(
    "Datum=t Eröffnung=o Höchst=h Tiefst=l Schluss=c Stücke=v Volumen_in_Euro=a",
    "%d.%m.%y",
    separator=";",
    write=dict.fromkeys("ohlca", comma),
    encoding="cp1252",
)
DAILY["investing"] = csv(
    "Date=t Price=c Open=o High=h Low=l Vol.=v Change_%=0.10%",
    "%m/%d/%Y",
    quote=True,
    encoding="utf-8-sig",
    reverse=True,
    write=dict.fromkeys("ohlc", english) | {"v": lambda value: f"{value / 1000:,.3f}K"},
)
DAILY["investing-german"] = csv(
    "Datum=t Zuletzt=c Eröffn.=o Hoch=h Tief=l Vol.=v +/-_%=0,10%",
    "%d.%m.%Y",
    quote=True,
    reverse=True,
    write=dict.fromkeys("ohlc", german) | {"v": lambda value: f"{value / 1e6:.6f}M".replace(".", ",")},
)
DAILY["investing-french"] = csv(
    "Date=t Dernier=c Ouv.=o Plus_Haut=h Plus_Bas=l Vol.=v Variation_%=0,10%",
    "%d/%m/%Y",
    quote=True,
    write=dict.fromkeys("ohlc", comma),
)
DAILY["investing-spanish"] = csv(
    "Fecha=t Último=c Apertura=o Máximo=h Mínimo=l Vol.=v %_var.=0,1%",
    "%d.%m.%Y",
    quote=True,
    write=dict.fromkeys("ohlc", german),
)
DAILY["investing-russian"] = csv(
    "Дата=t Цена=c Откр.=o Макс.=h Мин.=l Объём=v Изм._%=0,1%",
    "%d.%m.%Y",
    quote=True,
    write=dict.fromkeys("ohlc", german),
    encoding="cp1251",
)
DAILY["nasdaq"] = csv(
    "Date=t Close/Last=c Volume=v Open=o High=h Low=l", "%m/%d/%Y", write=dict.fromkeys("ohlc", dollars), reverse=True
)
DAILY["marketwatch"] = csv(
    "Date=t Open=o High=h Low=l Close=c Volume=v", "%m/%d/%Y", write={"v": lambda value: f"{value:,.0f}"}
)
DAILY["yahoo-website"] = csv(
    "Date=t Open=o High=h Low=l Close*=c Adj_Close**=1 Volume=v",
    "%b %d, %Y",
    write={"v": whole},
    separator="\t",
    reverse=True,
)
DAILY["bse"] = csv("Date=t Open_Price=o High_Price=h Low_Price=l Close_Price=c WAP=1 No.of_Shares=v", "%d-%B-%Y")
DAILY["nse-history"] = csv(
    "Date=t OPEN=o HIGH=h LOW=l close=c VOLUME=v VALUE=a No_of_trades=9", "%d-%b-%Y", write={"v": whole, "a": english}
)
DAILY["two-digit"] = csv(f"Date=t {OHLCV}", "%d-%b-%y")
DAILY["two-digit-months"] = csv(f"Date=t {OHLCV}", "%m/%d/%y")
DAILY["year-month-name"] = csv(f"Date=t {OHLCV}", "%Y-%b-%d")
DAILY["compact-name"] = csv(f"Date=t {OHLCV}", "%d%b%Y")
DAILY["weekday"] = csv(f"Date=t {OHLCV}", "%a %b %d %Y")
DAILY["chinese-date"] = csv(f"date=t {OHLCV}", "%Y年%m月%d日")
DAILY["swiss"] = csv(
    f"Date=t {OHLCV}", "%d.%m.%Y", separator=";", write={"v": lambda value: f"{value:,.0f}".replace(",", "'")}
)
DAILY["french-spaces"] = csv(
    "Date=t Ouverture=o Haut=h Bas=l Clôture=c Volume=v",
    "%d/%m/%Y",
    separator=";",
    write=dict.fromkeys("ohlc", comma) | {"v": lambda value: f"{value:,.0f}".replace(",", "\u202f")},
)
DAILY["stooq-bulk"] = csv(
    "<TICKER>=AAPL.US <PER>=D <DATE>=t <TIME>=000000 <OPEN>=o <HIGH>=h <LOW>=l <CLOSE>=c <VOL>=v <OPENINT>=0",
    "%Y%m%d",
    suffix=".us.txt",
)
DAILY["metastock"] = csv("=AAPL =D =t =o =h =l =c =v =0", "%Y%m%d", header=False, suffix=".txt")
DAILY["mt5"] = csv(
    "<DATE>=t <OPEN>=o <HIGH>=h <LOW>=l <CLOSE>=c <TICKVOL>=v <VOL>=0 <SPREAD>=2",
    "%Y.%m.%d",
    separator="\t",
    encoding="utf-16",
)
DAILY["headless"] = csv("=t =o =h =l =c =v", header=False)
DAILY["headless-german"] = csv(
    "=t =o =h =l =c =v", "%d.%m.%Y", header=False, separator=";", write=dict.fromkeys("ohlc", comma)
)
DAILY["ninjatrader"] = csv("=t =o =h =l =c =v", "%Y%m%d", header=False, separator=";", suffix=".txt")
DAILY["whitespace"] = csv(f"date=t {OHLCV}", separator="   ", suffix=".prn")
DAILY["pipe"] = csv(f"date=t {OHLCV}", separator="|", suffix=".txt")
DAILY["comments"] = csv(
    f"date=t {OHLCV}", above="# made by hand, in 2024\n#\n", below="# the end, 2024, of all, the, bars, there, are\n"
)
DAILY["numpy"] = csv(f"#_date=t {OHLCV}")
DAILY["footer"] = csv(f"date=t {OHLCV}", below='\n"Source: a vendor, who, by the way, likes, commas, very, much"\n\n')
DAILY["blank-ends"] = csv(f"date=t {OHLCV}", below=",,,,,\n  \n\n")
DAILY["cr"] = csv(f"date=t {OHLCV}", ending="\r")
DAILY["trailing"] = csv(f"date=t {OHLCV}", separator=",", ending=",\n")
DAILY["upper"] = csv(
    f"DATE=t {OHLCV}".upper()
    .replace("=T", "=t")
    .replace("=O", "=o")
    .replace("=H", "=h")
    .replace("=L", "=l")
    .replace("=C", "=c")
    .replace("=V", "=v"),
    suffix=".CSV",
)
DAILY["quoted"] = csv(f"date=t {OHLCV}", quote=True)
DAILY["spaces-after-commas"] = csv(f"date=t {OHLCV}", separator=", ")
DAILY["meta"] = csv(f"date=t {OHLCV}", above="Security,AAPL US Equity\nStart Date,2023-12-11\nPeriod,D\n\n")
DAILY["titled"] = csv(
    "Date=t PX_OPEN=o PX_HIGH=h PX_LOW=l PX_LAST=c PX_VOLUME=v",
    above="Security,AAPL US Equity,,,,\nPeriod,D,,,,\n,,,,,\n",
)
DAILY["total"] = csv(f"date=t {OHLCV}", below="Total,,,,,123456\n")
DAILY["lseg"] = csv("Date=t HIGH__1=h LOW__1=l OPEN__PRC=o TRDPRC__1=c ACVOL__UNS=v")
DAILY["investing-chinese"] = csv("日期=t 收盘=c 开盘=o 高=h 低=l 交易量=v", "%Y年%m月%d日")
DAILY["coinmarketcap"] = csv(
    "timeOpen=day timeClose=t name=2781 open=o high=h low=l close=c volume=v marketCap=1 timestamp=t",
    "%Y-%m-%dT23:59:59.999Z",
    separator=";",
    quote=True,
)
DAILY["currency"] = csv(f"Date=t {OHLCV}", write=dict.fromkeys("ohlc", lambda value: f"{value:.2f} €"))
DAILY["nordic"] = csv(
    "Date=t Bid=1 Ask=1 Opening_price=o High_price=h Low_price=l Closing_price=c Total_volume=v Turnover=a",
    separator=";",
    above="sep=;\n",
    write=dict.fromkeys("ohlca", comma),
)
DAILY["symbol-second"] = csv("=t =AAPL =o =h =l =c =v", header=False)
DAILY["two-digit-year"] = csv(f"date=t {OHLCV}", "%y%m%d")
DAILY["suffix"] = csv(f"date=t {OHLCV}", write={"v": lambda value: f"{value / 1e4:.4f}万"})

INTRADAY["baostock-5min"] = csv(
    "date=day time=t code=sh.600000 open=o high=h low=l close=c volume=v amount=a adjustflag=3", "%Y%m%d%H%M%S000"
)
INTRADAY["akshare-minutes"] = csv(
    "时间=t 开盘=o 收盘=c 最高=h 最低=l 涨跌幅=0.1 成交量=v 成交额=a", "%Y-%m-%d %H:%M:%S"
)
INTRADAY["tongdaxin-minutes"] = lambda frame, path: csv(
    "日期=day 时间=t 开盘=o 最高=h 最低=l 收盘=c 成交量=v 成交额=a",
    "%H%M",
    separator="\t",
    encoding="gb18030",
    suffix=".txt",
    above="600519 贵州茅台 60分钟线\n",
    below="#数据来源:通达信\n",
)(frame, path)
BINANCE = "=%s =o =h =l =c =v =%s =a =100 =1.5 =2.5 =0"
INTRADAY["binance-ms"] = csv(BINANCE % ("ms", "ms"), header=False)
INTRADAY["binance-us"] = csv(BINANCE % ("us", "us"), header=False)
INTRADAY["kraken"] = csv("=s =o =h =l =c =v =17", header=False)
INTRADAY["okx"] = csv("=ms =o =h =l =c =v =1.5 =a =1", header=False, reverse=True)
INTRADAY["bybit"] = csv("=ms =o =h =l =c =v =a", header=False, reverse=True)
INTRADAY["kucoin"] = csv("=s =o =c =h =l =v =a", header=False)
INTRADAY["coinbase-array"] = csv("=s =l =h =o =c =v", header=False, reverse=True)
INTRADAY["bitfinex"] = csv("=ms =o =c =h =l =v", header=False)
INTRADAY["coinbase"] = csv("time=s low=l high=h open=o close=c volume=v")
INTRADAY["bitstamp"] = csv(
    "unix=s date=t symbol=BTC/USD open=o high=h low=l close=c Volume_BTC=v Volume_USD=a",
    "%Y-%m-%d %H:%M:%S",
    reverse=True,
    above="https://www.CryptoDataDownload.com\n",
)
INTRADAY["kaggle-bitcoin"] = csv(
    "Timestamp=s Open=o High=h Low=l Close=c Volume_(BTC)=v Volume_(Currency)=a Weighted_Price=1"
)
INTRADAY["mt4"] = lambda frame, path: _two_columns(frame, path, "%Y.%m.%d,%H:%M")
INTRADAY["kibot"] = lambda frame, path: _two_columns(frame, path, "%m/%d/%Y,%H:%M")
INTRADAY["histdata"] = csv("=t =o =h =l =c =v", "%Y%m%d %H%M%S", header=False, separator=";")
INTRADAY["firstrate"] = csv("=t =o =h =l =c =v", "%Y-%m-%d %H:%M:%S", header=False, suffix=".txt")
INTRADAY["dukascopy"] = csv("Gmt_time=t Open=o High=h Low=l Close=c Volume=v", "%d.%m.%Y %H:%M:%S.000")
INTRADAY["dukascopy-gmt"] = csv("Local_time=t Open=o High=h Low=l Close=c Volume=v", "%d.%m.%Y %H:%M:%S.000 GMT+0000")
INTRADAY["finam"] = lambda frame, path: _two_columns(
    frame, path, "%y%m%d;%H%M%S", ";", "<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>\n"
)
INTRADAY["german-clock"] = csv(
    "Datum=day Uhrzeit=t Eröffnung=o Hoch=h Tief=l Schluss=c Volumen=v",
    "%H:%M",
    separator=";",
    write=dict.fromkeys("ohlc", comma),
)
INTRADAY["zone-abbreviation"] = csv(f"time=t {OHLCV}", "%Y-%m-%d %H:%M:%S UTC")
INTRADAY["r-whitespace"] = csv(f"date=t {OHLCV}", "%Y-%m-%d %H:%M:%S", separator=" ", suffix=".txt")
INTRADAY["tradingview"] = csv("time=s open=o high=h low=l close=c Volume=v Volume_MA=1 Plot=2 Plot=3 Volume=4")
INTRADAY["polygon"] = csv("ticker=AAPL volume=v open=o close=c high=h low=l window_start=ns transactions=9")
INTRADAY["databento"] = csv(
    "ts_event=ns rtype=34 publisher_id=1 instrument_id=5 open=o high=h low=l close=c volume=v symbol=ESH4"
)
INTRADAY["databento-fixed"] = csv(
    "ts_event=ns rtype=34 publisher_id=1 instrument_id=5 open=o high=h low=l close=c volume=v symbol=ESH4",
    write=dict.fromkeys("ohlc", lambda value: str(round(value * 1e9))),
)
INTRADAY["us-clock"] = csv(f"Date=t {OHLCV}", "%m/%d/%Y %I:%M %p")


def _two_columns(frame: pd.DataFrame, path: Path, date: str, separator: str = ",", header: str = "") -> Path:
    lines = [
        separator.join([stamp.strftime(date), *(plain(row[name]) for name in (*PRICES, "volume"))])
        for stamp, (_, row) in zip(frame["timestamps"], frame.iterrows(), strict=True)
    ]
    file = path.with_name(path.name + ".csv")
    file.write_text(header + "\n".join(lines) + "\n")
    return file


@intraday("excel-serial")
def _serial(frame: pd.DataFrame, path: Path) -> Path:
    serial = (frame["timestamps"] - pd.Timestamp("1899-12-30")) / pd.Timedelta(days=1)
    file = path.with_name(path.name + ".csv")
    frame.assign(timestamps=serial).rename(columns={"timestamps": "Date"}).to_csv(file, index=False)
    return file


def _rows(frame: pd.DataFrame, unit: str = "ms") -> list[list[float]]:
    epoch = frame["timestamps"].astype("datetime64[ns]").astype("int64") // EPOCH[unit]
    return [
        [int(stamp), *map(float, row)] for stamp, row in zip(epoch, frame[[*PRICES, "volume"]].to_numpy(), strict=True)
    ]


@intraday("numbered")
def _numbered(frame: pd.DataFrame, path: Path) -> Path:
    """pandas.DataFrame(exchange.fetch_ohlcv(...)).to_csv(...)"""
    file = path.with_name(path.name + ".csv")
    pd.DataFrame(_rows(frame)).to_csv(file)
    return file


@intraday("numbered-parquet")
def _numbered_parquet(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".parquet")
    pd.DataFrame(_rows(frame)).rename(columns=str).to_parquet(file)
    return file


def _json(name: str, make: Callable[[pd.DataFrame], object], suffix: str = ".json") -> None:
    def writer(frame: pd.DataFrame, path: Path) -> Path:
        file = path.with_name(path.name + suffix)
        made = make(frame)
        file.write_text(made if isinstance(made, str) else json.dumps(made))
        return file

    INTRADAY[name] = writer


def _records(frame: pd.DataFrame, names: str, stamp: Callable[[pd.Timestamp], object]) -> list[dict[str, object]]:
    keys = names.split()
    return [
        dict(
            zip(
                keys, [stamp(row.timestamps), *(float(getattr(row, name)) for name in (*PRICES, "volume"))], strict=True
            )
        )
        for row in frame.itertuples()
    ]


def _ms(stamp: pd.Timestamp) -> int:
    return stamp.value // 10**6


_json("ccxt-arrays", _rows)
_json(
    "binance-rest",
    lambda f: [
        [r[0], *map(str, r[1:]), r[0], str(a), 5, "1", "2", "0"] for r, a in zip(_rows(f), f["amount"], strict=True)
    ],
)
_json(
    "kraken-rest",
    lambda f: {
        "error": [],
        "result": {
            "XXBTZUSD": [[r[0] // 1000, *map(str, r[1:5]), str(r[4]), str(r[5]), 7] for r in _rows(f)],
            "last": 1,
        },
    },
)
_json(
    "okx-rest",
    lambda f: {
        "code": "0",
        "msg": "",
        "data": [[str(r[0]), *map(str, r[1:]), "1", "2", "1"] for r in reversed(_rows(f))],
    },
)
_json("records", lambda f: _records(f, "date open high low close volume", str))
_json(
    "records-lines", lambda f: "\n".join(map(json.dumps, _records(f, "date open high low close volume", str))), ".jsonl"
)
_json(
    "polygon-rest",
    lambda f: {
        "ticker": "AAPL",
        "status": "OK",
        "results": [r | {"vw": 1.5, "n": 3} for r in _records(f, "t o h l c v", _ms)],
    },
)
_json(
    "alpaca",
    lambda f: {"bars": {"AAPL": _records(f, "t o h l c v", lambda s: s.isoformat() + "Z")}, "next_page_token": None},
)
_json(
    "oanda",
    lambda f: {
        "instrument": "EUR_USD",
        "candles": [
            {"time": r["t"], "volume": r["v"], "mid": {k: str(r[k]) for k in "ohlc"}}
            for r in _records(f, "t o h l c v", lambda s: s.isoformat() + ".000000000Z")
        ],
    },
)
_json(
    "finnhub",
    lambda f: {
        **{k: [r[k] for r in _records(f, "t o h l c v", lambda s: s.value // 10**9)] for k in "tohlcv"},
        "s": "ok",
    },
)
_json(
    "yahoo-chart",
    lambda f: {
        "chart": {
            "result": [
                {
                    "meta": {"symbol": "AAPL"},
                    "timestamp": [r[0] // 1000 for r in _rows(f)],
                    "indicators": {"quote": [{name: f[name].tolist() for name in (*PRICES, "volume")}]},
                }
            ],
            "error": None,
        }
    },
)
_json(
    "alphavantage-json",
    lambda f: {
        "Meta Data": {"2. Symbol": "IBM"},
        "Time Series (60min)": {
            str(r["t"]): {
                "1. open": str(r["o"]),
                "2. high": str(r["h"]),
                "3. low": str(r["l"]),
                "4. close": str(r["c"]),
                "5. volume": str(r["v"]),
            }
            for r in reversed(_records(f, "t o h l c v", str))
        },
    },
)
_json(
    "pandas-columns",
    lambda f: {
        name: dict(zip(map(str, map(_ms, f["timestamps"])), f[name].tolist(), strict=True)) for name in f.columns[1:]
    },
)
_json(
    "pandas-split",
    lambda f: f.set_index("timestamps").to_json(orient="split", date_format="iso", date_unit="s", double_precision=15),
)
_json(
    "pandas-index",
    lambda f: f.set_index("timestamps").to_json(orient="index", date_format="iso", date_unit="s", double_precision=15),
)
_json(
    "tushare-rest",
    lambda f: {
        "code": 0,
        "data": {
            "fields": ["trade_time", "open", "high", "low", "close", "vol"],
            "items": [list(r.values()) for r in _records(f, "t o h l c v", str)],
        },
    },
)
_json(
    "eastmoney-rest",
    lambda f: {
        "data": {
            "code": "600519",
            "klines": [
                f"{r.timestamps:%Y-%m-%d %H:%M},{r.open},{r.close},{r.high},{r.low},{r.volume},{r.amount},1,2,3,4"
                for r in f.itertuples()
            ],
        }
    },
)
_json(
    "bitstamp-rest",
    lambda f: {
        "data": {
            "pair": "BTC/USD",
            "ohlc": _records(f, "timestamp open high low close volume", lambda s: str(s.value // 10**9)),
        }
    },
)


def _stacked(frame: pd.DataFrame, tickers: bool = True) -> pd.DataFrame:
    wide = frame.set_index("timestamps")[["close", "high", "low", "open", "volume"]].rename(columns=str.title)
    wide.columns = pd.MultiIndex.from_product([wide.columns, ["AAPL"]], names=["Price", "Ticker"])
    return wide.rename_axis("Date")


@daily("yfinance-download")
def _yfinance(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".csv")
    _stacked(frame).to_csv(file)
    return file


@daily("yfinance-by-ticker")
def _yfinance_by_ticker(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".csv")
    _stacked(frame).swaplevel(axis=1).to_csv(file)
    return file


@daily("yfinance-parquet")
def _yfinance_parquet(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".parquet")
    _stacked(frame).to_parquet(file)
    return file


@daily("parquet-types")
def _parquet(frame: pd.DataFrame, path: Path) -> Path:
    """date32, decimals, a dictionary, and volume as an integer."""
    file = path.with_name(path.name + ".pq")
    table = {"date": pa.array(frame["timestamps"].dt.date), "sym": pa.array(["A"] * len(frame)).dictionary_encode()}
    table |= {name: pa.array([Decimal(str(value)) for value in frame[name]]) for name in PRICES}
    pq.write_table(pa.table(table | {"vol": pa.array(frame["volume"].astype("int64"))}), file)
    return file


@daily("parquet-index")
def _parquet_index(frame: pd.DataFrame, path: Path) -> Path:
    """An index of symbol and date, both without names."""
    file = path.with_name(path.name + ".parquet")
    index = pd.MultiIndex.from_product([["SH600000"], frame["timestamps"]])
    frame.drop(columns="timestamps").set_index(index).to_parquet(file)
    return file


@daily("feather")
def _feather(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".feather")
    frame.to_feather(file)
    return file


@daily("qlib")
def _qlib(frame: pd.DataFrame, path: Path) -> Path:
    (path / "calendars").mkdir(parents=True)
    (path / "instruments").mkdir()
    folder = path / "features" / "sh600000"
    folder.mkdir(parents=True)
    days = ["2023-12-07", "2023-12-08", *frame["timestamps"].dt.strftime("%Y-%m-%d")]
    (path / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    (path / "instruments" / "all.txt").write_text(f"SH600000\t{days[2]}\t{days[-1]}\n")
    for name in (*PRICES, "volume", "factor"):
        values = frame[name] if name in frame else np.ones(len(frame))
        np.r_[2, values].astype("<f4").tofile(folder / f"{name}.day.bin")
    return path


def _packed(suffix: str, pack: Callable[[bytes], bytes]) -> Writer:
    def writer(frame: pd.DataFrame, path: Path) -> Path:
        file = path.with_name(path.name + suffix)
        file.write_bytes(pack(frame.to_csv(index=False).encode()))
        return file

    return writer


DAILY["gz"] = _packed(".csv.gz", gzip.compress)
DAILY["bz2"] = _packed(".csv.bz2", bz2.compress)
DAILY["xz"] = _packed(".csv.xz", lzma.compress)
DAILY["zst"] = _packed(".csv.zst", lambda content: pa.compress(content, "zstd", asbytes=True))


@daily("zip")
def _zip(frame: pd.DataFrame, path: Path) -> Path:
    """With what zip programs and vendors put beside the bars."""
    file = path.with_name(path.name + ".zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("EURUSD.csv", frame.to_csv(index=False))
        archive.writestr("EURUSD.txt", "Gap of 120s found between 2023-12-11 and 2023-12-12.\n")
        archive.writestr("__MACOSX/._EURUSD.csv", b"\x00\x05\x16\x07")
    return file


@daily("zip-parquet")
def _zip_parquet(frame: pd.DataFrame, path: Path) -> Path:
    file = path.with_name(path.name + ".zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bars.parquet", frame.to_parquet())
    return file
