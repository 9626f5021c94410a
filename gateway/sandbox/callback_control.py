"""The commands about callbacks, as `POST /do` of the control socket takes them."""

from typing import assert_never

import msgspec

from gateway.sandbox.callbacks import CallingProcessor, Forgery
from gateway.sandbox.calling_back import Destination, ReleaseOrder
from gateway.sandbox.processor import Processor


class CallBackTo(
    Destination, frozen=True, tag_field="do", tag="call_back_to", forbid_unknown_fields=True
):
    """As `CallingBack.call_back_to`."""


class _Command(msgspec.Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """What `POST /do` takes: `do` and the arguments of the method of that name."""


class CallBackNoMore(_Command, frozen=True, tag="call_back_no_more"):
    """As `CallingBack.call_back_no_more`."""

    processor: CallingProcessor
    account: str | None = None


class HoldCallbacks(_Command, frozen=True, tag="hold_callbacks"):
    """As `CallingBack.hold`."""


class ReleaseCallbacks(_Command, frozen=True, tag="release_callbacks"):
    """As `CallingBack.release`."""

    order: ReleaseOrder = "as_told"


class RepeatNextCallback(_Command, frozen=True, tag="repeat_next_callback"):
    """As `CallingBack.repeat_next`."""

    times: int = 1


class PlantInNextCallback(_Command, frozen=True, tag="plant_in_next_callback"):
    """As `CallingBack.plant_in_next`."""

    text: str

    def __repr__(self) -> str:
        return "PlantInNextCallback"


class ForgeNextCallback(_Command, frozen=True, tag="forge_next_callback"):
    """As `CallingBack.forge_next`."""

    forgery: Forgery = "other_secret"


class ChargeBack(_Command, frozen=True, tag="charge_back"):
    """As `Processor.charge_back`."""

    processor: CallingProcessor
    payment: str


CallbackCommand = (
    CallBackTo
    | CallBackNoMore
    | HoldCallbacks
    | ReleaseCallbacks
    | RepeatNextCallback
    | PlantInNextCallback
    | ForgeNextCallback
    | ChargeBack
)


def obey_about_callbacks(  # noqa: C901 - one case a command
    processor: Processor, command: CallbackCommand
) -> None:
    """Do it; a ValueError, LookupError or OSError where it cannot be done."""
    callbacks = processor.callbacks
    match command:
        case CallBackTo():
            callbacks.call_back_to(command)
        case CallBackNoMore(of, account):
            callbacks.call_back_no_more(of, account)
        case HoldCallbacks():
            callbacks.hold()
        case ReleaseCallbacks(order):
            callbacks.release(order)
        case RepeatNextCallback(times):
            callbacks.repeat_next(times)
        case PlantInNextCallback(text):
            callbacks.plant_in_next(text)
        case ForgeNextCallback(forgery):
            callbacks.forge_next(forgery)
        case ChargeBack(of, payment):
            processor.charge_back(of, payment)
        case _ as unreachable:
            assert_never(unreachable)
