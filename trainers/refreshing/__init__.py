"""Negatives that are drawn anew while training, from what the student itself ranks high (ANCE, Xiong et al. 2021)."""
