from kademlia.node import Node
from kademlia.routing import RoutingTable
from kademlia.storage import IStorage
from rpcudp.protocol import RPCProtocol

class KademliaProtocol(RPCProtocol):
    router: RoutingTable
    storage: IStorage
    source_node: Node
    def __init__(self, source_node: Node, storage: IStorage, ksize: int) -> None: ...
    def get_refresh_ids(self) -> list[bytes]: ...
    def welcome_if_new(self, node: Node) -> None: ...
