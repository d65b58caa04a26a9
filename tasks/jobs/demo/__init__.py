"""Jobs for trying and measuring."""
