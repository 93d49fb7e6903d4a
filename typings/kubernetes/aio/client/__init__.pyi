import ssl
from types import TracebackType
from typing import Any, Self

class Configuration:
    def __init__(self) -> None: ...
    host: str
    proxy: str | None
    proxy_headers: dict[str, str] | None
    tls_server_name: str | None
    connection_pool_maxsize: int
    retries: int | None

class _Response:
    status: int
    async def read(self) -> bytes: ...

class _Rest:
    ssl_context: ssl.SSLContext

class ApiClient:
    configuration: Configuration
    rest_client: _Rest
    def __init__(self, configuration: Configuration | None = None) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    async def param_serialize(
        self,
        method: str,
        resource_path: str,
        query_params: list[tuple[str, str]] | None = None,
        header_params: dict[str, str] | None = None,
        auth_settings: list[str] | None = None,
    ) -> tuple[str, str, dict[str, str], Any, Any]: ...
    async def call_api(
        self,
        method: str,
        url: str,
        header_params: dict[str, str] | None = None,
        *,
        _request_timeout: float | None = None,
    ) -> _Response: ...
