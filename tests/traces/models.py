"""Six links as frozen figures, each with its unit and source. No behaviour here.

How far each source was read, marked behind every figure:
  [read]     the figure stands in text that was looked up for this file;
  [abstract] only the abstract or a summary by others was at hand ("as summarised in");
  [spec]     follows from a 3GPP or IETF text, from memory of it, not looked up again;
  [assumed]  a cautious guess between sourced bounds: no published figure was found.

Sources:
  Baltrunas14  Baltrūnas, Elmokashfi, Kvalbein, "Measuring the Reliability of Mobile
               Broadband Networks", IMC 2014. [abstract] More than 20 % of stationary
               connections are away for more than 10 min a day; two operators together
               reach 99.999 %.
  Baltrunas15  the same, "Dissecting Packet Loss in Mobile Broadband Networks from the
               Edge", INFOCOM 2015. [abstract] Much of the loss falls into RRC state
               changes; the rest follows the hour of the day.
  Baltrunas16  the same and Alay, "Investigating Packet Loss in Mobile Broadband Networks
               under Mobility". [abstract] 70 % of loss falls into changes of radio
               technology or passing loss of service: loss comes in bursts.
  Huang12      Huang et al., "A Close Examination of Performance and Power Characteristics
               of 4G LTE Networks", MobiSys 2012. Tail 11.6 s [abstract: tables that cite
               it]; promotion 260 ms [abstract: handed down, not found in reachable text].
  Rosen14      Rosen et al., "Discovering Fine-grained RRC State Dynamics and Performance
               Impacts in Cellular Networks", MobiCom 2014. [abstract] State changes add
               up to several seconds of delay and, on LTE, ten times the loss.
  Jiang12      Jiang et al., "Tackling Bufferbloat in 3G/4G Networks", IMC 2012.
               [abstract] Buffers of a cellular modem hold seconds.
  Grigorik13   Grigorik, "High Performance Browser Networking", chapter 7. [read: a
               quotation of table 7-2] 4G round trip below 100 ms, idle → active 100 ms
               by the standard.
  RLF          A radio link failure interrupts service for 1–3 s (training text on drive
               tests, 5g6gacademy.com, lesson 12.3.1). [read]
  36.300       3GPP TS 36.300, 10.1.2: a handover forwards what was not delivered, so
               packets wait and are not lost; 36.881 puts the pause itself below 50 ms.
               [spec]
  Jaga         The project's field notes: handover gaps 0.3–2 s, wake-up 0.3–2 s.
  Michel22     Michel et al., "A First Look at Starlink Performance", IMC 2022, and the
               authors' summary on blog.apnic.net, 28 Nov 2022. [read] Round trip to
               European anchors: minimum 20, quartiles 40, 50, 60 ms; geostationary at
               least about 600 ms.
  Kassem22     Kassem et al., "A Browser-side View of Starlink Connectivity", IMC 2022.
               [abstract] Losses of up to half of the packets around handovers.
  Mohan24      Mohan et al., "A Multifaceted Look at Starlink Performance", WWW 2024.
               [abstract] Links are arranged anew every 15 s, everywhere at once.
  Huston24     Huston, "A transport protocol's view of Starlink", blog.apnic.net, 17 May
               2024. [read: long quotations] New delay every 15 s, at worst 30 → 80 ms;
               6.7 ms between successive round trips; spikes of 30–50 ms at the change;
               1–2 % of packets lost without congestion.
  beerriot21   blog.beerriot.com, 6 Feb and 3 Mar 2021. [read] Over 700 outages of exactly
               one second in 66.5 h, about 11 an hour; longer ones are rarer (the figures
               themselves are pictures, so their shape is [assumed]).
  danopstech   github.com/danopstech/starlink, issue 3. [read] 400 ms of queue in the
               uplink.

What is left out on purpose: outages of minutes (Baltrunas14), because leaving such a link
is right, and a count of needless moves must not profit from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Quantiles = tuple[tuple[float, float], ...]
"""(ratio, seconds), rising, from ratio 0 to ratio 1; straight lines between."""

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Gaps:
    """Stretches in which nothing passes; they begin as a Poisson process."""

    per_hour: float
    length_s: Quantiles
    held_ratio: float
    """Of the gaps: packets wait until the end (36.300); in the others they are lost."""


@dataclass(frozen=True, slots=True)
class Bursts:
    """Stretches of heavy loss: the bad state of a Gilbert-Elliott channel."""

    per_hour: float
    length_s: Quantiles
    loss_ratio: float


@dataclass(frozen=True, slots=True)
class Steps:
    """The standing delay is drawn anew at each step."""

    every_s: float
    more_s: Quantiles
    """Added to the base round trip until the next step."""
    burst_ratio: float = 0.0
    """Of the steps that come with a burst of loss."""
    burst_s: Quantiles = ((0.0, 0.0), (1.0, 0.0))
    burst_loss_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Swell:
    """A busy hour: the standing delay climbs, stays, and falls again."""

    every_s: float
    first_s: float
    rise_s: float
    hold_s: float
    more_s: float
    """Added to the base round trip at the height."""
    loss_ratio: float
    """At the height."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """The radio goes to sleep (RRC idle) and the first packets wait for it."""

    after_s: float
    wake_s: Quantiles
    loss_ratio: float
    """Of packets sent while it wakes."""


@dataclass(frozen=True, slots=True)
class RadioModel:
    """One kind of link. Round trips and ratios count both directions together."""

    name: str
    base_rtt_s: float
    excess_s: Quantiles
    """Added to each packet's round trip, independently: the heavy tail."""
    loss_ratio: float
    """Independent loss outside gaps and bursts."""
    up_bytes_per_s: float
    queue_s: float
    """How far the modem's own queue swells under an upload."""
    steps: Steps | None = None
    gaps: tuple[Gaps, ...] = ()
    bursts: tuple[Bursts, ...] = ()
    sleep: Sleep | None = None
    swell: Swell | None = None


LTE_STATIONARY: Final = RadioModel(
    "lte_stationary",
    base_rtt_s=0.035,
    # Median near 60 ms, below Grigorik13's 100 ms; the tail to a second [assumed] from
    # link-layer repeats.
    excess_s=(
        (0.0, 0.0),
        (0.5, 0.015),
        (0.75, 0.025),
        (0.9, 0.045),
        (0.95, 0.07),
        (0.99, 0.18),
        (0.999, 0.5),
        (1.0, 1.2),
    ),
    loss_ratio=0.001,
    up_bytes_per_s=500_000.0,  # 4 Mbit/s [assumed]; Huang12's median is 6
    queue_s=0.4,  # Jiang12 found more
    # The cell's load [assumed].
    steps=Steps(20.0, ((0.0, 0.0), (0.5, 0.01), (0.9, 0.04), (1.0, 0.12))),
    gaps=(
        # Handovers and re-establishments of a stick between two cells: Jaga, 36.300.
        Gaps(5.0, ((0.0, 0.3), (0.5, 0.5), (0.9, 1.0), (1.0, 2.0)), held_ratio=0.5),
        # RLF; how often is [assumed].
        Gaps(0.2, ((0.0, 1.0), (0.5, 1.7), (1.0, 3.0)), held_ratio=0.0),
    ),
    # Baltrunas16: loss is bursty; together with the rest about 0.3 %.
    bursts=(Bursts(40.0, ((0.0, 0.05), (0.5, 0.12), (1.0, 0.6)), 0.5),),
    # Huang12, Rosen14, Jaga.
    sleep=Sleep(
        10.0,
        ((0.0, 0.26), (0.5, 0.4), (0.9, 1.0), (0.99, 1.7), (1.0, 2.0)),
        loss_ratio=0.01,
    ),
)
"""A stick by the window, good signal: 0.3 % loss, five gaps of 0.3–2 s an hour."""

LTE_CELL_EDGE: Final = RadioModel(
    "lte_cell_edge",
    base_rtt_s=0.06,
    # [assumed] but for the bounds of the brief field notes: up to 400 ms is common.
    excess_s=(
        (0.0, 0.0),
        (0.5, 0.04),
        (0.9, 0.12),
        (0.95, 0.2),
        (0.99, 0.45),
        (0.999, 1.2),
        (1.0, 2.5),
    ),
    loss_ratio=0.005,
    up_bytes_per_s=125_000.0,
    queue_s=0.8,
    steps=Steps(15.0, ((0.0, 0.0), (0.5, 0.05), (0.9, 0.18), (1.0, 0.3))),
    gaps=(
        Gaps(20.0, ((0.0, 0.3), (0.5, 0.6), (0.9, 1.3), (1.0, 2.0)), held_ratio=0.4),
        Gaps(1.0, ((0.0, 1.0), (0.5, 1.7), (1.0, 3.0)), held_ratio=0.0),
    ),
    bursts=(Bursts(120.0, ((0.0, 0.05), (0.5, 0.25), (1.0, 0.8)), 0.5),),
    sleep=Sleep(
        10.0,
        ((0.0, 0.3), (0.5, 0.6), (0.9, 1.3), (0.99, 1.9), (1.0, 2.0)),
        loss_ratio=0.05,
    ),
)
"""Far from the mast: round trips to 400 ms, 1 % loss, twenty gaps an hour."""

STARLINK: Final = RadioModel(
    "starlink",
    base_rtt_s=0.03,
    # Huston24: 6.7 ms between successive round trips; Michel22's quartiles with steps.
    excess_s=(
        (0.0, 0.0),
        (0.5, 0.006),
        (0.9, 0.02),
        (0.99, 0.06),
        (0.999, 0.15),
        (1.0, 0.3),
    ),
    loss_ratio=0.004,  # with bursts and gaps 1–2 %: Huston24
    up_bytes_per_s=1_250_000.0,
    queue_s=0.3,  # danopstech saw 400 ms
    # Mohan24, Huston24 (30 → 80 ms at worst), Kassem22 (half of the packets).
    steps=Steps(
        15.0,
        ((0.0, 0.0), (0.5, 0.015), (0.9, 0.035), (1.0, 0.05)),
        burst_ratio=0.5,
        burst_s=((0.0, 0.05), (0.5, 0.2), (1.0, 0.5)),
        burst_loss_ratio=0.5,
    ),
    gaps=(
        # beerriot21: eleven outages of one second an hour; 2–3 s ones rarer [assumed].
        Gaps(11.0, ((0.0, 0.6), (0.5, 1.0), (1.0, 1.4)), held_ratio=0.0),
        Gaps(4.0, ((0.0, 1.5), (0.5, 2.0), (1.0, 3.0)), held_ratio=0.0),
        # Obstructions; a clear view has none, so a few a day [assumed].
        Gaps(0.25, ((0.0, 3.5), (0.5, 6.0), (1.0, 15.0)), held_ratio=0.0),
    ),
)
"""A dish with a nearly clear view: steps of 15 s, fifteen outages of 1–3 s an hour."""

VSAT_GEO: Final = RadioModel(
    "vsat_geo",
    base_rtt_s=0.6,  # Michel22; physics puts 4 × 35,786 km at 0.48 s
    # Slots of the shared uplink (DVB-RCS2) [assumed].
    excess_s=(
        (0.0, 0.0),
        (0.5, 0.03),
        (0.9, 0.09),
        (0.99, 0.35),
        (0.999, 0.9),
        (1.0, 1.5),
    ),
    loss_ratio=0.003,
    up_bytes_per_s=125_000.0,
    queue_s=0.5,
    gaps=(Gaps(1.0, ((0.0, 0.3), (0.5, 0.8), (1.0, 2.0)), held_ratio=0.0),),
    # After idleness capacity must be asked for: one more hop up and down [assumed].
    sleep=Sleep(10.0, ((0.0, 0.0), (0.5, 0.3), (1.0, 0.7)), loss_ratio=0.003),
)
"""A geostationary dish: 600 ms and more, little loss."""

FIBRE_LINE: Final = RadioModel(
    "fibre",
    base_rtt_s=0.03,  # Kutai Timur to Jakarta, 1,300 km and back, and routers [assumed]
    excess_s=((0.0, 0.0), (0.9, 0.003), (0.99, 0.015), (0.999, 0.08), (1.0, 0.3)),
    loss_ratio=0.0001,
    up_bytes_per_s=2_500_000.0,
    queue_s=0.1,
)
"""A leased or home fibre: the control of the experiment."""

CONGESTED_EVENING: Final = RadioModel(
    "congested_evening",
    base_rtt_s=0.045,
    excess_s=LTE_STATIONARY.excess_s,
    loss_ratio=0.002,
    up_bytes_per_s=125_000.0,
    queue_s=0.5,
    steps=LTE_STATIONARY.steps,
    gaps=LTE_STATIONARY.gaps,
    bursts=LTE_STATIONARY.bursts,
    sleep=LTE_STATIONARY.sleep,
    # Baltrunas15: loss follows the hour of the day; height and length [assumed].
    swell=Swell(6 * HOUR_S, 300.0, 600.0, 1800.0, more_s=0.5, loss_ratio=0.02),
)
"""LTE when everyone sends: for most of an hour about 600 ms and 2 % loss."""

MODELS: Final = {
    model.name: model
    for model in (
        LTE_STATIONARY,
        LTE_CELL_EDGE,
        STARLINK,
        VSAT_GEO,
        FIBRE_LINE,
        CONGESTED_EVENING,
    )
}
