"""nginx in front of the bot, with `auth_request`: what the gateway is compared with."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.processes import require_program, running

_CONFIGURATION = """
daemon off;
user {account};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes {workers};
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on;
    client_max_body_size 0;
    upstream bot {{ server {bot}; keepalive 64; }}
    upstream check {{ server 127.0.0.1:{check_port}; keepalive 64; }}
    map $http_upgrade $upgraded {{ default upgrade; "" ""; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=1024;
        location / {{
            auth_request /check;
            auth_request_set $user_id $upstream_http_x_platform_user_id;
            auth_request_set $user_email $upstream_http_x_platform_user_email;
            auth_request_set $user_name $upstream_http_x_platform_user_name;
            auth_request_set $assertion $upstream_http_x_platform_assertion;
            proxy_pass http://bot;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_read_timeout 600s;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $upgraded;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Cookie "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto http;
            proxy_set_header X-Platform-User-Id $user_id;
            proxy_set_header X-Platform-User-Email $user_email;
            proxy_set_header X-Platform-User-Name $user_name;
            proxy_set_header X-Platform-Assertion $assertion;
            proxy_hide_header Clear-Site-Data;
            proxy_hide_header Service-Worker-Allowed;
            proxy_hide_header Strict-Transport-Security;
            proxy_hide_header Alt-Svc;
            add_header Content-Security-Policy "frame-ancestors 'self'" always;
        }}
        location = /check {{
            internal;
            proxy_pass http://check;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Original-Target $request_uri;
        }}
    }}
}}
"""


@contextmanager
def running_nginx(
    folder: Path, *, port: int, bot: str, check_port: int, workers: int, ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx for the duration of a `with` block, and yield its main process.

    Args:
        folder: for its configuration and logs; created.
        port: where it listens.
        bot: `host:port` of the bot.
        check_port: where the endpoint for `auth_request` listens.
        workers: number of worker processes.
        ready: returns whether it answers.

    Raises:
        MissingRequirement: nginx is not installed or does not start.
    """
    program = require_program("nginx", "nginx")
    folder.mkdir()
    file = folder / "nginx.conf"
    values = {"port": port, "bot": bot, "check_port": check_port, "workers": workers, "account": getpass.getuser()}
    file.write_text(_CONFIGURATION.format(folder=folder, **values))
    with running([program, "-c", str(file)], log=folder / "nginx.log", ready=ready) as process:
        yield process
