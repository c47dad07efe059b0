"""ComfyUI-RealCompo: layout-controlled sampling with two models."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint():  # noqa: ANN201 (the host's type must not be imported before it asks)
    """The extension's nodes; the host is imported only once it asks for them."""
    from .nodes import RealCompoExtension

    return RealCompoExtension()
