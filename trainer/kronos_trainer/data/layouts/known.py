"""The table of layouts. To add one, add a row: how it is recognised, and what its columns hold.

- `header`: normalised column names that, together, only this layout has. Columns are then found by the aliases of
  `columns.ALIASES`; `columns` has patterns for those that the aliases would miss or mistake.
- `shape`: for files without a header, what each column holds, in order:
      time, or date and clock     the stamp
      open high low close         prices; no other price is above the high or below the low
      volume amount               amount / volume is a price of the bar
      vwap                        a price between low and high, or 0
      count                       a whole number
      symbol, -                   a name; anything
      ...                         further columns, whatever they are
  Of several shapes that fit, the first counts; where two disagree about a price, the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kronos_trainer.errors import ConfigError

_QUOTES = r"usd|usdt|usdc|busd|fdusd|tusd|dai|eur|gbp|jpy|krw|cny|chf|aud|cad|try|brl|inr|rub|base_currency"


@dataclass(frozen=True)
class Layout:
    """One row of the table."""

    name: str  # for --layout
    title: str  # in notes
    header: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)  # field -> pattern of the normalised name
    shape: str = ""
    fixed_point: float = 0  # what one unit of the prices is worth where all of them are whole numbers
    first: bool = False  # begins with the columns of `header`, and of others of the same name these count


PLAIN = Layout("table", "a table with a header")

LAYOUTS: tuple[Layout, ...] = (
    # --- with a header -------------------------------------------------------------------------------------------
    Layout("akshare", "akshare (East Money)", header="日期 开盘 收盘 最高 最低 成交量 成交额 振幅"),
    Layout("akshare-minutes", "akshare minutes (East Money)", header="时间 开盘 收盘 最高 最低 成交量 成交额"),
    Layout("baostock", "baostock", header="code adjustflag"),
    Layout("tushare", "tushare", header="ts_code trade_date vol"),
    Layout("joinquant", "JoinQuant", header="open close high low volume money"),
    Layout("rqdata", "RQData", header="order_book_id total_turnover"),
    Layout("wind", "Wind, or akshare futures", header="开盘价 最高价 最低价 收盘价"),
    Layout("tongdaxin", "Tongdaxin", header="日期 开盘 最高 最低 收盘 成交量 成交额"),
    Layout("twse", "TWSE", header="日期 成交股數 成交金額 開盤價 收盤價"),
    Layout("yfinance", "yfinance", header="date open high low close volume dividends stock_splits"),
    Layout("yahoo", "Yahoo Finance", header="date open high low close adj_close volume"),
    Layout("alphavantage", "Alpha Vantage", header="timestamp open high low close adjusted_close dividend_amount"),
    Layout("investing", "Investing.com", header="date price open high low vol change_%"),
    Layout("nasdaq", "Nasdaq.com", header="date close/last volume open high low"),
    Layout("nse", "NSE India", header="date open high low close volume value no_of_trades",
           columns={"amount": "value"}),
    Layout("stooq", "Stooq", header="ticker per date time open high low close vol openint"),
    Layout("finam", "Finam", header="ticker per date time open high low close vol"),
    Layout("metatrader", "MetaTrader", header="date open high low close tickvol vol spread"),
    Layout("tradingview", "TradingView", header="time open high low close", first=True),
    Layout("dukascopy", "Dukascopy", header="gmt_time open high low close volume"),
    Layout("cryptodatadownload", "CryptoDataDownload", header="unix date symbol open high low close",
           columns={"amount": rf"volume_(?:{_QUOTES})", "volume": rf"volume_(?!(?:{_QUOTES})$)\w+"}),
    Layout("coinmarketcap", "CoinMarketCap", header="timeopen timeclose open high low close",
           columns={"timestamps": "timeopen"}),
    Layout("binance", "Binance klines", header="open_time open high low close volume close_time"),
    Layout("databento", "Databento", header="ts_event rtype publisher_id", fixed_point=1e-9),
    Layout("polygon", "Polygon flat files", header="ticker window_start transactions"),
    Layout("polygon-rest", "Polygon or Alpaca REST", header="t o h l c v n"),
    Layout("huobi", "HTX", header="id open close low high amount vol count",
           columns={"timestamps": "id", "volume": "amount", "amount": "vol"}),
    Layout("upbit", "Upbit", header="candle_date_time_utc opening_price trade_price",
           columns={"timestamps": "candle_date_time_utc", "close": "trade_price", "symbol": "market",
                    "volume": "candle_acc_trade_volume", "amount": "candle_acc_trade_price"}),
    Layout("kaggle-bitcoin", "bitcoin-historical-data", header="timestamp volume_(btc) volume_(currency)"),
    # --- without one, or numbered, or rows of JSON ----------------------------------------------------------------
    Layout("binance-dump", "Binance klines", shape="time open high low close volume time amount count - - -"),
    Layout("binance-coin-m", "Binance COIN-M klines", shape="time open high low close volume time - count - - -"),
    Layout("okx", "OKX candles", shape="time open high low close volume - amount count"),
    Layout("bybit", "Bybit klines", shape="time open high low close volume amount"),
    Layout("kraken-rest", "Kraken REST", shape="time open high low close vwap volume count"),
    Layout("kraken", "Kraken OHLCVT", shape="time open high low close volume count"),
    Layout("kucoin", "KuCoin candles", shape="time open close high low volume amount"),
    Layout("gate", "Gate.io candles", shape="time amount close high low open volume -"),
    Layout("bitfinex", "Bitfinex candles", shape="time open close high low volume"),
    Layout("coinbase", "Coinbase candles", shape="time low high open close volume"),
    Layout("mt4", "MetaTrader 4 history", shape="date clock open high low close volume"),
    Layout("stooq-dump", "Stooq without header", shape="symbol - date clock open high low close volume count"),
    Layout("metastock", "MetaStock ASCII", shape="symbol - date clock open high low close volume"),
    Layout("metastock-days", "MetaStock ASCII, days", shape="symbol - date open high low close volume ..."),
    Layout("time-symbol", "time, symbol and prices", shape="time symbol open high low close volume ..."),
    Layout("symbol-time", "symbol, time and prices", shape="symbol time open high low close volume ..."),
    Layout("eastmoney", "East Money klines", shape="time open close high low volume amount ..."),
    Layout("ccxt", "time, open, high, low, close, volume", shape="time open high low close volume"),
    Layout("clock", "date, time of day, prices, volume", shape="date clock open high low close volume ..."),
    Layout("clock-prices", "date, time of day and prices", shape="date clock open high low close"),
    Layout("amount", "time, prices, volume and amount", shape="time open high low close volume amount ..."),
    Layout("prices", "time and prices", shape="time open high low close"),
    Layout("ohlcv", "time, prices and volume", shape="time open high low close volume ..."),
    Layout("ochlv", "time, prices (open close high low) and volume", shape="time open close high low volume ..."),
)  # fmt: skip

WIDE = Layout("wide", "a column for each symbol")

NAMES = (PLAIN.name, *(layout.name for layout in LAYOUTS), WIDE.name, "qlib", "upstream")


def check_layout(name: str | None) -> None:
    """Raise ConfigError unless `name` is None or one of the table's."""
    if name is not None and name not in NAMES:
        raise ConfigError(f"--layout: unknown layout {name!r}; the layouts are {', '.join(NAMES)}")
