"""An AnnData becomes the cells of a call, and what came of them a `Result` in it: the room that knows AnnData."""
