"""The operations of the script: one typed function for each, and the replies as values.

Durations are milliseconds. A ``tag`` is the hash tag of a room (:func:`..script.hash_tag`) or of the nodes.
"""

from .nodes import (
    acquire as acquire,
)
from .nodes import (
    add_rooms as add_rooms,
)
from .nodes import (
    beat as beat,
)
from .nodes import (
    clear_rooms as clear_rooms,
)
from .nodes import (
    command as command,
)
from .nodes import (
    confirm as confirm,
)
from .nodes import (
    count_user as count_user,
)
from .nodes import (
    live_nodes as live_nodes,
)
from .nodes import (
    release as release,
)
from .nodes import (
    remove_node as remove_node,
)
from .nodes import (
    remove_rooms as remove_rooms,
)
from .nodes import (
    renew as renew,
)
from .nodes import (
    rooms_of as rooms_of,
)
from .nodes import (
    send as send,
)
from .nodes import (
    sync_commands as sync_commands,
)
from .nodes import (
    tick as tick,
)
from .nodes import (
    trim_histories as trim_histories,
)
from .nodes import (
    unconfirmed as unconfirmed,
)
from .once import (
    claim_request as claim_request,
)
from .once import (
    finish_request as finish_request,
)
from .once import (
    release_request as release_request,
)
from .publications import (
    past as past,
)
from .publications import (
    publish as publish,
)
from .publications import (
    release_room as release_room,
)
from .publications import (
    sync_room as sync_room,
)
from .replies import (
    FENCED as FENCED,
)
from .replies import (
    Announced as Announced,
)
from .replies import (
    Beat as Beat,
)
from .replies import (
    Caller as Caller,
)
from .replies import (
    Claimed as Claimed,
)
from .replies import (
    Compared as Compared,
)
from .replies import (
    Counted as Counted,
)
from .replies import (
    Departure as Departure,
)
from .replies import (
    Entered as Entered,
)
from .replies import (
    Joined as Joined,
)
from .replies import (
    MissedCommand as MissedCommand,
)
from .replies import (
    Operation as Operation,
)
from .replies import (
    Page as Page,
)
from .replies import (
    Renewal as Renewal,
)
from .replies import (
    Renewed as Renewed,
)
from .replies import (
    T as T,
)
from .replies import (
    Terms as Terms,
)
from .replies import (
    Tick as Tick,
)
from .restrictions import (
    Restricted as Restricted,
)
from .restrictions import (
    RestrictionPage as RestrictionPage,
)
from .restrictions import (
    delete_restrictions as delete_restrictions,
)
from .restrictions import (
    drop_restrictions as drop_restrictions,
)
from .restrictions import (
    issue_ticket as issue_ticket,
)
from .restrictions import (
    merge_restrictions as merge_restrictions,
)
from .restrictions import (
    read_restrictions as read_restrictions,
)
from .restrictions import (
    redeem_ticket as redeem_ticket,
)
from .restrictions import (
    restrict as restrict,
)
from .restrictions import (
    restrictions_digest as restrictions_digest,
)
from .rooms import (
    announce as announce,
)
from .rooms import (
    claim as claim,
)
from .rooms import (
    compare as compare,
)
from .rooms import (
    end_list as end_list,
)
from .rooms import (
    enter as enter,
)
from .rooms import (
    expire as expire,
)
from .rooms import (
    expire_nodes as expire_nodes,
)
from .rooms import (
    leave as leave,
)
from .rooms import (
    page as page,
)
from .rooms import (
    present as present,
)
from .rooms import (
    record_of as record_of,
)
from .rooms import (
    release_lease as release_lease,
)
from .rooms import (
    renew_room as renew_room,
)
from .rooms import (
    stop_node as stop_node,
)
from .rooms import (
    update as update,
)
