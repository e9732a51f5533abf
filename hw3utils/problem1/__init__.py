"""Problem 1: learning rates and batch sizes on FashionMNIST.

`experiments` says what is run, `learning_rates` and `diagnostics` compute, `tables` gathers,
`answers` (1.1, 1.2) and `batch_size_answers` (1.3) compare and say it, both ``figures`` draw.
"""
