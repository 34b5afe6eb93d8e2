"""What the commands do when a model lives in a cluster. Imported by a command once its options mean one."""
