"""Judging speech without ears: word error rate, DNSMOS, speaker similarity, lengths.

Needs the extra ``eval`` (a recogniser and the DNSMOS network); nothing here trains or synthesises.
"""
