"""Every number of a swarm, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SwarmParams:
    # -- what is asked for ------------------------------------------------------------------------------------------
    # Of the choices, the share that looks at the readers' windows first. The rest keeps the herd diverse: with 0.8 ten
    # hosts that fetch from one that is complete go in step, all want its next pieces, and take 2.5 times as long. That
    # a reader waits no longer than a second or so is `urgent_s`'s doing (docs/adr/0017).
    window_ratio: float = 0.2
    # How far ahead of a reader his window goes. A short one: a herd in which all want the same pieces is slow.
    window_pieces_count: int = 8
    # Readers who count. More (parallel ranges of one client) would make everything a window.
    window_readers_count: int = 4
    # A reader who has waited so long for his next byte gets that piece before anything else is asked for.
    urgent_s: float = 0.5
    # What may be held or under way ahead of the slowest reader and of the digest: bounds the spool. Small blobs that
    # are verified before the first byte leaves are exempt.
    ahead_max_bytes: int = 1024 * MIB
    # The first stream of a source that is alone so far. By its end others may have been found.
    run_first_bytes: int = 4 * MIB
    # Where every source is complete a request takes about so long, so that slow and fast ones end together.
    run_duration_s: float = 0.5
    run_max_bytes: int = 32 * MIB
    # And for half of its part of what is left at most, shorter and shorter towards the end: what another one takes over
    # from a run is on its way already, for nothing.
    run_shares_count: int = 2
    # Requests at one source. The first tells the rate; then as many as cover a round trip.
    source_runs_max_count: int = 4
    # Requests in all: each is a connection and a buffer.
    runs_max_count: int = 64

    # -- when a second request is made ------------------------------------------------------------------------------
    # A source that sends no byte for so long is hedged ...
    hedge_s: float = 1.0
    # ... and given up for a while after so long.
    silent_max_s: float = 5.0
    # A second request for a piece that is under way is made if it comes in less than this share of the first's time ...
    # (With 0.5 ten hosts that share slow links make one for every third piece, since what an idle source once gave is
    # not what it gives now.)
    double_gain_ratio: float = 0.2
    # ... and the first would need longer than this: below, both end at about the same time.
    double_min_s: float = 0.5

    # -- what a host that is fed from the origin offers (mirror.swarm.offers) --------------------------------------
    # An offer is under way, fetched and heard of again within about so long, most of it in two batches of the state
    # channel: what comes meanwhile is offered, too.
    offers_cover_s: float = 0.3
    # And so many more, each at another neighbour.
    offers_min_count: int = 2
    # With fewer than that open the uplink may be idle: something is offered once more.
    offers_again_count: int = 1
    # A neighbour that has not fetched what it was offered for so long, and for so many times as long as it takes as a
    # rule, may never.
    offer_open_min_s: float = 1.0
    offer_open_factor: float = 4.0
    # While the uplink is needed for other blobs: who had nothing new from anybody for so long gets it here after all.
    # Who comes has to find the others first, and fetches a piece within a second.
    offers_starved_s: float = 2.0
    # A herd that has not taken all by then is not of our making.
    offers_after_s: float = 10.0

    # -- sources ----------------------------------------------------------------------------------------------------
    # About ten neighbours: with five the slowest host of 200 is a fifth later, more than ten gain nothing.
    sources_wanted_count: int = 10
    # A stranger can name any number of sources.
    sources_max_count: int = 64
    find_interval_s: float = 5.0
    # While nothing is under way, and nothing came for so long.
    find_hungry_s: float = 1.0
    # Doubled by each failure in a row.
    failure_rest_s: float = 0.5
    failure_rest_max_s: float = 30.0
    # After so many in a row nobody should wait for it. One is a connection that was lost.
    useless_failures_count: int = 2
    # A source without a free upload slot: by lot between half of it and all of it, doubled in a row. A piece takes
    # about as long: who rests longer finds the slots taken again, and small images are over by then.
    busy_rest_s: float = 0.1
    busy_rest_max_s: float = 0.8
    # A lie is rare and costs a pull. Doubled by each one that is not yet forgotten.
    ban_s: float = 120.0
    ban_max_s: float = 3600.0
    # One ban is forgotten after so long.
    ban_forget_s: float = 1800.0
    # Smoothing of a source's rate: about the last so many seconds count.
    rate_memory_s: float = 2.0

    # -- wrong bytes ------------------------------------------------------------------------------------------------
    # Sources asked for their piece digests: two that agree against one are a majority, two more may stay silent.
    blame_ask_count: int = 4
    # A source has to hash all of its pieces: 0.7 s for a GiB.
    blame_answer_s: float = 5.0
    # Then the reader is better off at the origin.
    mismatches_max_count: int = 3

    # -- ends -------------------------------------------------------------------------------------------------------
    # No byte from anybody for so long while a reader waits (a body that pauses for so long is ended).
    give_up_s: float = 20.0
    # While nothing is under way and a source rests the clock is looked at so often: how late it is asked again.
    tick_s: float = 0.1
    # Else: how late a hedge can be. Most that is to be done is done when a piece comes.
    tick_busy_s: float = 0.25
    # While it is not, and our own containerd brings the blob: each of its steps is an event. This is for room that is
    # found again in the spool.
    tick_fed_s: float = 1.0
