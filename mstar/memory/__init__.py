"""How much memory a run takes, before it is begun: arithmetic on its configuration and on its models' shapes."""
