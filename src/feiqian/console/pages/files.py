"""Style, script and mark of the console."""

from litestar import Response, get

from feiqian.api.access import Access
from feiqian.api.problems import NotFound
from feiqian.console.static_files import PREFIX, static_files


@get(f"{PREFIX}/{{name:str}}", opt={"access": Access.PUBLIC, "reads_state": False}, include_in_schema=False)
async def show_file(name: str) -> Response[bytes]:
    """Give one of the console's static files."""
    file = static_files().get(name)
    if file is None:
        raise NotFound("the console has no such file")
    # Its address names its content's digest, so what was fetched once stays good.
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(file.content, media_type=file.media_type, headers=headers)


PAGES = (show_file,)
