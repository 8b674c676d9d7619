"""The export that `muniment demo` imports: `chatgpt-export.zip`, all of it invented."""
