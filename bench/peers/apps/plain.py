"""The design that a team writes first: Flask, SQLite and files. Run by gunicorn, in an environment of its own.

Written as a good team would: kept connections in WAL mode, an index for each page, pages without a count, one
transaction an upload, Flask's own `send_file` with conditions and ranges, files under names of its own. The owner
comes from the gateway in front, in a header.
"""

import hashlib
import json
import os
import sqlite3
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, abort, jsonify, request, send_file
from PIL import Image, UnidentifiedImageError

DATA_DIR = Path(os.environ["PLAIN_DATA_DIR"])
_PAGE_LIMIT = 100

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    filename TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    tags TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS images_by_owner ON images (owner, created_at);
CREATE INDEX IF NOT EXISTS images_by_title ON images (owner, title, created_at);
CREATE TABLE IF NOT EXISTS image_tags (
    tag TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images (id),
    PRIMARY KEY (tag, image_id)
) WITHOUT ROWID;
"""

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 26 * 1024 * 1024
_local = threading.local()


def database() -> sqlite3.Connection:
    """Return this thread's connection."""
    if not hasattr(_local, "db"):
        _local.db = sqlite3.connect(DATA_DIR / "plain.db", timeout=30)
        _local.db.row_factory = sqlite3.Row
        _local.db.execute("PRAGMA journal_mode = WAL")
        _local.db.execute("PRAGMA synchronous = NORMAL")
    return _local.db


def owner() -> str:
    """Return who asks."""
    return request.headers.get("X-User-ID") or abort(401)


def document(row: sqlite3.Row) -> dict[str, object]:
    """Return what a client sees of an image."""
    return {**dict(row), "tags": json.loads(row["tags"])}


def path_of(image_id: str) -> Path:
    """Return where an image's bytes are."""
    return DATA_DIR / "files" / image_id[:2] / image_id


@app.post("/images")
def upload() -> tuple[Response, int]:
    """Store an image."""
    file = request.files["file"]
    content = file.read()
    try:
        with Image.open(file.stream) as picture:
            width, height, content_type = picture.width, picture.height, Image.MIME[picture.format]
    except UnidentifiedImageError:
        abort(400, "not an image")
    tags = list(dict.fromkeys(tag.strip() for tag in request.form.get("tags", "").split(",") if tag.strip()))
    row = {
        "id": str(uuid.uuid4()),
        "owner": owner(),
        "filename": file.filename or "image",
        "title": request.form.get("title") or file.filename or "image",
        "description": request.form.get("description", ""),
        "tags": json.dumps(tags),
        "content_type": content_type,
        "size_bytes": len(content),
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(content).hexdigest(),
        "created_at": datetime.now(UTC).isoformat(),
    }
    path = path_of(row["id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with database() as db:
        db.execute(f"INSERT INTO images VALUES ({', '.join(f':{name}' for name in row)})", row)
        db.executemany("INSERT INTO image_tags VALUES (?, ?)", [(tag, row["id"]) for tag in tags])
    return jsonify({**row, "tags": tags}), 201


@app.get("/images")
def page() -> Response:
    """List the newest, of all the tags or the title if some are given."""
    limit = min(int(request.args.get("limit", 50)), _PAGE_LIMIT)
    joins, conditions, parameters = "", "images.owner = ?", [owner()]
    for number, tag in enumerate(request.args.getlist("tag")):
        joins += f" JOIN image_tags AS t{number} ON t{number}.image_id = images.id"
        conditions += f" AND t{number}.tag = ?"
        parameters.append(tag)
    if title := request.args.get("title"):
        conditions += " AND images.title = ?"
        parameters.append(title)
    rows = database().execute(
        f"SELECT images.* FROM images{joins} WHERE {conditions} ORDER BY images.created_at DESC LIMIT ?",
        (*parameters, limit),
    )
    return jsonify({"items": [document(row) for row in rows]})


@app.get("/images/<image_id>/metadata")
def metadata(image_id: str) -> Response:
    """Tell what is known of an image."""
    return jsonify(document(own_row(image_id)))


@app.get("/images/<image_id>")
def download(image_id: str) -> Response:
    """Give an image's bytes."""
    row = own_row(image_id)
    path = path_of(image_id)
    return send_file(path, mimetype=row["content_type"], etag=row["sha256"], conditional=True, max_age=0)


def own_row(image_id: str) -> sqlite3.Row:
    """Return the record of the caller's own image."""
    found = database().execute("SELECT * FROM images WHERE id = ? AND owner = ?", (image_id, owner())).fetchone()
    return found or abort(404)


with sqlite3.connect(DATA_DIR / "plain.db", timeout=30) as first:
    first.execute("PRAGMA journal_mode = WAL")
    first.executescript(SCHEMA)
first.close()
