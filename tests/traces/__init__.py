"""Statistical models of real links, and what they yield over hours of virtual time.

They are the honest basis of the tests for needless moves: `models` holds the figures and
their sources, `behaviour` turns one model and a seed into gaps, bursts and delays,
`recorded` keeps one generated hour of each in files, so that a test does not hang on
this code. Nothing here knows the engine.
"""
