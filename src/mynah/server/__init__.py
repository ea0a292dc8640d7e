"""The server: one ``Runtime``, and every protocol as a thin layer over ``speech.speak``.

Needs the extra ``mynah-tts[server]``; nothing here is imported by ``import mynah``.
"""
