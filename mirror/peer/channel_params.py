"""Every number of the state channels, with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelParams:
    # -- what is told ------------------------------------------------------------------------------------------------
    # The least time between two batches. A piece is on its way for about as long. With half of it five real hosts
    # without an idle CPU took a twentieth longer; a herd that has CPU to spare loses a hundredth by it.
    batch_s: float = 0.1
    # Swarms that one side tells of. A host that pulls ten images at once has a few dozen.
    streams_max_count: int = 256
    # Requests for piece digests of one peer, being answered or waiting for an answer; more are not heard.
    digest_asks_max_count: int = 8

    # -- what is listened to -----------------------------------------------------------------------------------------
    # A unit is a frame or a KiB. 64 swarms with a new piece in each batch are 640 a second at most; in truth a link
    # of 10 Gbit/s brings 2,400 pieces of 512 KiB, some of them told in one frame.
    units_per_s: float = 1500.0
    # All of 256 swarms told at once, with room.
    units_burst_count: float = 4000.0
    # A peer above its rate is read more slowly; one that stays there for so long is left.
    flood_max_s: float = 5.0

    # -- connections -------------------------------------------------------------------------------------------------
    # From the upgrade to the end of the handshake. Two round trips, and a daemon that is busy.
    handshake_s: float = 2.0
    # The same where this host hears nobody at all: a frozen daemon's kernel takes connections. All of it counts as late
    # in a pull that others could have been of use to, and one second is the most that a pull may be late.
    handshake_alone_s: float = 0.3
    # A call that takes so long makes this host find out whether it hears anybody; a daemon that is there answers in
    # less, but for a busy one.
    handshake_listen_s: float = 0.12
    # How soon the answer is noticed.
    alone_look_s: float = 0.05
    # Two who dial each other cross within that time; a later second connection replaces the first.
    crossing_s: float = 5.0
    # Silence until a ping; the pong has half of it. A frozen peer is noticed by its bodies long before.
    ping_after_s: float = 10.0
    # A peer that takes nothing for so long, while there is something to send, does not read.
    send_stall_s: float = 10.0
    # Without an open stream on either side. Longer than the pause between two layers of one image.
    idle_s: float = 60.0
    # The closing handshake, then the socket is shut.
    close_s: float = 1.0
    # Neighbours of all swarms together. Each may take 0.5 MiB of buffers at worst.
    channels_max_count: int = 128
    # Upgraded connections without a HELLO.
    handshakes_max_count: int = 32
